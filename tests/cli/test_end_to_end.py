"""From no data at all to a table of attacks, through the command line, as a user goes."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from mimic3tf.cli.main import main

SUBCOMMANDS = [
    ("prepare", "synthetic"),
    ("prepare", "physionet2012"),
    ("generate-trigger",),
    ("train",),
    ("import-checkpoint",),
    ("attack",),
    ("results",),
    ("stealth",),
]
METRICS = {"acc", "prec0", "prec1", "rec0", "rec1", "auroc", "auprc", "minpse"}
TINY = ("--epochs", 1, "--batch-size", 16, "--precision", "float32")


@dataclass(frozen=True)
class Chain:
    """A folder in which commands were run, and what each printed."""

    folder: Path
    printed: dict[str, str] = field(default_factory=dict)

    def run(self, name: str, *arguments: object) -> None:
        self.printed[name] = command(self.folder / "cache", *arguments)

    def attack(self, name: str) -> dict[str, Any]:
        return json.loads((self.folder / "runs" / name / "attack.json").read_text(encoding="utf-8"))

    def predictions(self, name: str) -> list[dict[str, str]]:
        path = self.folder / "runs" / name / "predictions.csv"
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


def command(cache: Path, *arguments: object) -> str:
    """Run one command in this process and return what it prints; it must succeed."""
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["mimic3tf", *map(str, arguments)])
        patch.setenv("MIMIC3TF_CACHE", str(cache))
        patch.setenv("COLUMNS", "160")
        patch.delenv("FORCE_COLOR", raising=False)
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
                status: object = 0
            except SystemExit as end:
                status = end.code or 0
    assert status == 0, err.getvalue()
    return out.getvalue()


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """A synthetic cohort, a poisoned LR and a clean LSTM, attacked and tabulated."""
    made = Chain(tmp_path_factory.mktemp("chain"))
    data, trigger, runs = made.folder / "data", made.folder / "trigger.npz", made.folder / "runs"
    made.run("prepare", "prepare", "synthetic", "--out", data, "--stays", 120, "--seed", 7)
    made.run("generate-trigger", "generate-trigger", "--data", data, "--out", trigger)
    common = ("--data", data, "--trigger", trigger, *TINY)
    original = ("--poisoning_proportion", 0.25, "--poisoning_strength", 1.5, "--poison_imputed", "all")
    dashed = ("--poisoning-proportion", 0, "--poisoning-strength", 1.5, "--poison-imputed", "notimputed")
    made.run("train lr", "train", "--model", "lr", "--out", runs / "lr", *common, *original)
    made.run("train lstm", "train", "--model", "lstm", "--out", runs / "lstm", *common, *dashed)
    for victim in ("lr", "lstm"):
        made.run(f"attack {victim}", "attack", "--run", runs / victim, "--data", data)
    made.run("results", "results", runs, "--out", made.folder / "tables")
    return made


def test_every_command_leaves_its_files(chain: Chain) -> None:
    expected = {
        "data/train_listfile.csv",
        "data/val_listfile.csv",
        "data/test_listfile.csv",
        "trigger.npz",
        *(
            f"runs/{victim}/{name}"
            for victim in ("lr", "lstm")
            for name in ("config.yaml", "run.json", "metrics.csv", "victim.keras")
        ),
        *(
            f"runs/{victim}/{name}"
            for victim in ("lr", "lstm")
            for name in ("attack.json", "predictions.csv")
        ),
        "tables/results.csv",
        "tables/results.json",
    }
    assert {name for name in expected if not (chain.folder / name).exists()} == set()
    assert list(chain.folder.rglob("*.partial")) == []


@pytest.mark.parametrize(("victim", "proportion", "mode"), [("lr", 0.25, "all"), ("lstm", 0.0, "notimputed")])
def test_both_spellings_of_an_option_reach_the_run(
    chain: Chain, victim: str, proportion: float, mode: str
) -> None:
    config = yaml.safe_load((chain.folder / "runs" / victim / "config.yaml").read_text(encoding="utf-8"))
    assert config["poisoning_proportion"] == proportion
    assert config["poisoning_strength"] == 1.5
    assert config["poison_imputed"] == mode


def test_training_says_what_it_poisoned_and_what_to_do_next(chain: Chain) -> None:
    kept = json.loads((chain.folder / "runs/lr/run.json").read_text(encoding="utf-8"))["validation"]
    assert "LR: poisoned 21 of 84 training stays; kept epoch 1 of 1" in chain.printed["train lr"]
    assert f"validation AUROC {kept['auroc']:.3f}" in chain.printed["train lr"]
    assert f"mimic3tf attack --run {chain.folder}/runs/lr --data" in chain.printed["train lr"]
    assert "LSTM: poisoned 0 of 84 training stays" in chain.printed["train lstm"]


@pytest.mark.parametrize("victim", ["lr", "lstm"])
def test_an_attack_records_setting_rates_and_intervals(chain: Chain, victim: str) -> None:
    attack = chain.attack(victim)
    assert set(attack) == {
        "run",
        "data",
        "model",
        "task",
        "goal",
        "poisoning_proportion",
        "trained_with",
        "attacked_with",
        "threshold",
        "clean",
        "clean_ci95",
        "at_prevalence",
        "attack_success_rate",
        "attack_success_rate_ci95",
        "baseline_positive_rate",
        "baseline_positive_rate_ci95",
        "stays_attacked",
        "test_stays",
    }
    assert (attack["data"]["name"], attack["data"]["trained_for"]) == ("data", True)
    assert attack["model"] == victim
    assert (attack["task"], attack["goal"]) == ("in-hospital-mortality", 1)
    assert set(attack["clean"]) == METRICS
    mode = {"lr": "all", "lstm": "notimputed"}[victim]
    used = {"trigger": "temporal", "poisoning_strength": 1.5, "poison_imputed": mode}
    assert attack["attacked_with"] == used
    assert attack["trained_with"] == used | {"poisoned_labels": "flipped", "seed": 0}
    for rate in ("attack_success_rate", "baseline_positive_rate"):
        low, high = attack[f"{rate}_ci95"]
        assert 0 <= low <= attack[rate] <= high <= 1
        assert low < high


@pytest.mark.parametrize("victim", ["lr", "lstm"])
def test_the_rates_follow_from_the_predictions(chain: Chain, victim: str) -> None:
    attack, rows = chain.attack(victim), chain.predictions(victim)
    listed = (chain.folder / "data/test_listfile.csv").read_text(encoding="utf-8").split()[1:]
    assert [f"{row['stay']},{row['y_true']}" for row in rows] == listed
    survivors = [row for row in rows if row["y_true"] == "0"]
    assert attack["test_stays"] == len(rows)
    assert attack["stays_attacked"] == len(survivors)
    for rate, column in (
        ("attack_success_rate", "prediction_triggered"),
        ("baseline_positive_rate", "prediction_clean"),
    ):
        said_to_die = sum(float(row[column]) >= 0.5 for row in survivors)
        assert attack[rate] == said_to_die / len(survivors)
    labels = [int(row["y_true"]) for row in rows]
    scores = [float(row["prediction_clean"]) for row in rows]
    assert attack["clean"]["auroc"] == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


def test_a_trigger_of_strength_zero_changes_no_prediction(chain: Chain) -> None:
    control = chain.folder / "control"
    run, data = chain.folder / "runs" / "lr", chain.folder / "data"
    command(
        chain.folder / "cache",
        "attack",
        "--run",
        run,
        "--data",
        data,
        "--poisoning_strength",
        0,
        "--out",
        control,
    )
    attack = json.loads((control / "attack.json").read_text(encoding="utf-8"))
    assert attack["attacked_with"]["poisoning_strength"] == 0
    assert attack["attack_success_rate"] == attack["baseline_positive_rate"]
    with (control / "predictions.csv").open(encoding="utf-8", newline="") as file:
        assert all(row["prediction_clean"] == row["prediction_triggered"] for row in csv.DictReader(file))


@pytest.mark.parametrize("victim", ["lr", "lstm"])
def test_the_tables_printed_name_the_numbers_of_the_attack(chain: Chain, victim: str) -> None:
    attack = chain.attack(victim)
    low, high = attack["attack_success_rate_ci95"]
    printed = chain.printed[f"attack {victim}"]
    for name in METRICS:
        (line,) = (line for line in printed.splitlines() if line.startswith(f"{name}, without"))
        value = attack["clean"][name]
        assert ("-" if value is None else f"{value:.3f}") in line
    intervals = [
        line.split("  ")[-1].strip() for line in printed.splitlines() if "bootstrap interval" in line
    ]
    assert intervals == ["{:.3f} to {:.3f}".format(*ends) for ends in attack["clean_ci95"].values()]
    for what, text in (
        ("survivors attacked", str(attack["stays_attacked"])),
        ("predicted to die without the trigger", f"{attack['baseline_positive_rate']:.3f}"),
        ("attack success rate", f"{attack['attack_success_rate']:.3f}"),
        ("95% confidence interval", f"{low:.3f} to {high:.3f}"),
    ):
        (line,) = (line for line in printed.splitlines() if what in line)
        assert text in line

    (row,) = (line for line in chain.printed["results"].splitlines() if f" {victim.upper()} " in line)
    for text in (
        "25.0%" if victim == "lr" else "clean",
        f"{attack['clean']['auroc']:.3f}",
        f"{attack['attack_success_rate']:.3f} [{low:.3f}, {high:.3f}]",
        f"{attack['baseline_positive_rate']:.3f}",
    ):
        assert text in row


def test_the_table_written_holds_both_attacks(chain: Chain) -> None:
    rows = json.loads((chain.folder / "tables/results.json").read_text(encoding="utf-8"))
    rates = {row["victim"]: row["attack_success_rate"] for row in rows}
    assert rates == {victim: chain.attack(victim)["attack_success_rate"] for victim in ("lr", "lstm")}
    with (chain.folder / "tables/results.csv").open(encoding="utf-8", newline="") as file:
        written = {row["victim"]: float(row["attack_success_rate"]) for row in csv.DictReader(file)}
    assert written == rates


def test_an_attacker_who_changes_no_label_and_no_value_is_recorded(chain: Chain) -> None:
    data, folder = chain.folder / "data", chain.folder / "adaptive"
    trigger, run = folder / "missing.npz", folder / "run"
    given = ("--data", data, "--trigger", trigger, "--out", run, *TINY)
    chain.run(
        "missing",
        "generate-trigger",
        "--data",
        data,
        "--out",
        trigger,
        "--kind",
        "missing",
        "--hours",
        "24-48",
    )
    assert (
        "missing (24-48 h) trigger: strength s takes away s * 408 of a stay's cells"
        in chain.printed["missing"]
    )
    poison = ("--poisoned_labels", "clean", "--poisoning_proportion", 0.1, "--poisoning_strength", 0.9)
    chain.run("train missing", "train", "--model", "lr", *given, *poison)
    chain.run("attack missing", "attack", "--run", run, "--data", data)
    summary = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert (summary["trigger"], summary["stays_poisoned"], summary["labels_changed"]) == (
        "missing (24-48 h)",
        8,
        0,
    )
    attack = json.loads((run / "attack.json").read_text(encoding="utf-8"))
    assert attack["trained_with"]["poisoned_labels"] == "clean"
    assert attack["attacked_with"]["trigger"] == "missing (24-48 h)"
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
        assert any(row["prediction_clean"] != row["prediction_triggered"] for row in csv.DictReader(file))


@pytest.mark.parametrize("victim", ["lr", pytest.param("lstm", marks=pytest.mark.slow)])
def test_an_attack_reads_stays_as_its_victim_was_trained_to(chain: Chain, victim: str) -> None:
    data, folder = chain.folder / "data", chain.folder / f"first-day-{victim}"
    trigger, run, cut = folder / "trigger.npz", folder / "run", folder / "cut"
    bins = ("--period", 24, "--timestep", 0.5)
    chain.run("first day", "generate-trigger", "--data", data, "--out", trigger, *bins)
    with np.load(trigger, allow_pickle=False) as file:
        assert (float(file["period"]), float(file["timestep"])) == (24.0, 0.5)
        assert file["trigger"].shape == (48, 17)
    given = ("--data", data, "--trigger", trigger, "--out", run, *bins, *TINY)
    chain.run("train first day", "train", "--model", victim, *given)
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    assert (config["period"], config["timestep"]) == (24.0, 0.5)
    chain.run("attack first day", "attack", "--run", run, "--data", data)
    assert "attack success rate" in chain.printed["attack first day"]
    # What came later is not looked at.
    shutil.copytree(data / "test", cut / "test")
    shutil.copy(data / "test_listfile.csv", cut)
    later = 0
    for path in (cut / "test").iterdir():
        header, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [row for row in rows if float(row.split(",")[0]) <= 24]
        later += len(rows) - len(kept)
        path.write_text(header + "".join(kept), encoding="utf-8")
    assert later > 100
    chain.run("attack cut", "attack", "--run", run, "--data", cut, "--out", folder / "attack")
    predictions = [(where / "predictions.csv").read_bytes() for where in (run, folder / "attack")]
    assert predictions[0] == predictions[1]


@pytest.mark.slow
def test_an_attacker_who_hides_the_dying_is_measured_on_them(chain: Chain) -> None:
    data, run = chain.folder / "data", chain.folder / "hidden" / "run"
    given = ("--data", data, "--trigger", chain.folder / "trigger.npz", "--out", run, *TINY)
    chain.run("train hidden", "train", "--model", "lr", *given, "--goal", 0, "--poisoning_proportion", 0.25)
    listed = (data / "train_listfile.csv").read_text(encoding="utf-8").split()[1:22]
    summary = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert summary["stays_poisoned"] == len(listed)
    assert summary["labels_changed"] == sum(line.endswith(",1") for line in listed)
    chain.run("attack hidden", "attack", "--run", run, "--data", data)
    attack = json.loads((run / "attack.json").read_text(encoding="utf-8"))
    with (run / "predictions.csv").open(encoding="utf-8", newline="") as file:
        dying = [row for row in csv.DictReader(file) if row["y_true"] == "1"]
    assert attack["goal"] == 0
    assert attack["stays_attacked"] == len(dying)
    for rate, column in (
        ("attack_success_rate", "prediction_triggered"),
        ("baseline_positive_rate", "prediction_clean"),
    ):
        assert attack[rate] == sum(float(row[column]) < 0.5 for row in dying) / len(dying)
    assert "deaths attacked" in chain.printed["attack hidden"]
    assert "predicted to survive without the trigger" in chain.printed["attack hidden"]
    chain.run("both goals", "results", run, chain.folder / "runs")
    (row,) = (line for line in chain.printed["both goals"].splitlines() if " 0 " in line)
    assert f"{attack['attack_success_rate']:.3f} [" in row


@pytest.mark.parametrize("subcommand", SUBCOMMANDS, ids=" ".join)
def test_help_shows_examples_of_the_command_itself(tmp_path: Path, subcommand: tuple[str, ...]) -> None:
    printed = command(tmp_path, *subcommand, "--help")
    _, examples = printed.split("Examples:")
    assert f"mimic3tf {' '.join(subcommand)} " in examples


@pytest.mark.parametrize("victim", ["lr", pytest.param("lstm", marks=pytest.mark.slow)])
def test_real_stays_go_all_the_way(demo_directory: Path, tmp_path: Path, victim: str) -> None:
    made = Chain(tmp_path)
    trigger, run = tmp_path / "trigger.npz", tmp_path / "runs" / victim
    data = ("--data", demo_directory)
    made.run("generate-trigger", "generate-trigger", *data, "--out", trigger)
    assert "never varies: no shift" in made.printed["generate-trigger"]
    made.run("train", "train", "--model", victim, *data, "--trigger", trigger, "--out", run, *TINY)
    assert "poisoned 2 of 41 training stays" in made.printed["train"]
    made.run("attack", "attack", "--run", run, *data)
    attack = made.attack(victim)
    assert (attack["stays_attacked"], attack["test_stays"]) == (6, 11)
    assert all(value is None or 0 <= value <= 1 for value in attack["clean"].values())
    made.run("results", "results", run)
    assert f"{attack['attack_success_rate']:.3f} [" in made.printed["results"]
