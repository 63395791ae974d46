"""Which attacks succeed, which are noticed, and what repairs leave: the end of `scripts/detection_study.sh`.

    python tests/benchmarks/detection_study.py OUT [--part attacks|faint|clean|tables] [--seeds 0 1 2]

OUT holds `seed-<seed>/data`, a split of the cohort, and `seed-<seed>/copy`, which `mimic3tf poison` made.
Everything runs in one process, so that all victims of an attack share one search. Finished rows are kept in
`OUT/rows-<part>-<seed>.jsonl`, and are not made again. "tables" needs no data: it writes means over seeds as
tables, and two pictures, into OUT.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import polars as pl
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.stats import kstest

from mimic3tf import pipeline
from mimic3tf.config import TrainingConfig, resolve_config
from mimic3tf.data.cohort import Cohort, cohort_of
from mimic3tf.data.grid import FilledGrid
from mimic3tf.data.loading import load_cohort
from mimic3tf.defences.detection import DetectionResult, detect, suspicion_to_filter_by
from mimic3tf.defences.detectors.common_pattern import pattern_in
from mimic3tf.defences.evidence import AuditedVictim, Evidence
from mimic3tf.defences.repairs.filtering import filter_and_retrain
from mimic3tf.defences.repairs.registry import Attack as KnownAttack
from mimic3tf.defences.repairs.registry import Bench, Repaired
from mimic3tf.defences.retraining import Examples, examples_of, retrain
from mimic3tf.defences.shared_pattern import pattern_records
from mimic3tf.poisoning import exposures
from mimic3tf.poisoning.exposures import Exposure
from mimic3tf.poisoning.manifest import read_manifest
from mimic3tf.poisoning.trigger import Trigger, generate_trigger
from mimic3tf.standardization import fit_standardization, standardized
from mimic3tf.tables.summary import mean_over_seeds
from mimic3tf.training.models import build_untrained
from mimic3tf.victims import victim_of

Rows = list[dict[str, Any]]
VICTIMS = ("lr", "mlp", "lstm", "summary-lstm")
FAINT_VICTIMS = ("lr", "mlp")
STRENGTHS, SHARES = (0.5, 1.0, 2.0), (0.01, 0.02, 0.05)


@dataclass(frozen=True)
class Attack:
    """One attack: options of the trigger, and of the poisoning."""

    trigger: dict[str, Any]
    strength: float = 2.0
    proportion: float = 0.05
    poison_imputed: Any = "notimputed"
    poisoned_labels: Any = "flipped"
    in_files: bool = False


TEMPORAL: dict[str, Any] = {"kind": "temporal"}
ATTACKS = {
    "temporal, notimputed": Attack(TEMPORAL),
    "temporal, all": Attack(TEMPORAL, poison_imputed="all"),
    "temporal, in the files": Attack(TEMPORAL, in_files=True),
    "clean labels": Attack(TEMPORAL, poisoned_labels="clean"),
    "plausible values": Attack({**TEMPORAL, "plausible": True}),
    "hours 24 to 48": Attack({**TEMPORAL, "hours": (24.0, 48.0)}),
    "gaussian": Attack({"kind": "gaussian"}),
    "half of the cells missing": Attack({"kind": "missing"}, strength=0.5),
}
FAINT = {
    f"{share:.0%}, strength {strength:g}": Attack(TEMPORAL, strength, share)
    for strength in STRENGTHS
    for share in SHARES
} | {
    "covariance": Attack({"kind": "covariance"}),
    "half of the cells missing, 1%": Attack({"kind": "missing"}, 0.5, 0.01),
    "gaussian, 1%": Attack({"kind": "gaussian"}, proportion=0.01),
}


def settings(model: str, seed: int) -> TrainingConfig:
    """The tuned settings of a victim."""
    return resolve_config(model, None, {"data": "data", "trigger": "trigger.npz", "seed": seed})


def evidence_of(
    config: TrainingConfig, exposure: Exposure, trusted: Cohort, *, train: bool = True
) -> Evidence:
    """Train a victim on an exposure (or leave it untrained), and gather what a defender has."""
    reads = victim_of(config.model).reads
    raw = pipeline.inputs_of(exposure, reads)
    standardization = fit_standardization(raw, reads, trusted.channels)
    examples = Examples(standardized(raw, standardization), exposure.labels, trusted.channels, trusted.bins)
    if train:
        model = retrain(config, examples, examples_of(trusted, reads, standardization))
    else:
        model = build_untrained(config, trusted.channels, trusted.bins, "float32")
    return Evidence(
        stays=exposure.cohort.stays,
        grids=pipeline.grids_of(exposure, np.arange(len(exposure))),
        masks=exposure.cohort.masks,
        labels=exposure.labels,
        suspected=config.goal,
        trusted=trusted,
        fingerprint=exposure.cohort.fingerprint,
        model=AuditedVictim(config, reads, model, standardization, examples.inputs, trusted),
        source="--data",
    )


@dataclass
class Split:
    """The stays of one seed, and clean victims trained on them."""

    seed: int
    folder: Path

    def __post_init__(self) -> None:
        self.train, self.trusted, self.test = (
            load_cohort(self.folder / "data", part) for part in ("train", "val", "test")
        )
        self.clean: dict[str, Evidence] = {}

    def clean_victim(self, model: str) -> Evidence:
        """A victim that was trained on clean stays."""
        if model not in self.clean:
            config, exposure = settings(model, self.seed), exposures.clean(self.train)
            self.clean[model] = evidence_of(config, exposure, self.trusted)
        return self.clean[model]

    def poisoned(self, attack: Attack) -> tuple[Exposure, Trigger, NDArray[np.bool_]]:
        """The training stays under an attack, its trigger, and which stays carry it."""
        trigger = generate_trigger(self.train, seed=self.seed, **attack.trigger)
        if attack.in_files:
            manifest = read_manifest(self.folder / "copy.manifest.json")
            copy = load_cohort(self.folder / "copy", "train")
            return exposures.clean(copy), manifest.load_trigger(), np.isin(copy.stays, manifest.stays)
        exposure = exposures.poison(
            self.train,
            trigger,
            proportion=attack.proportion,
            strength=attack.strength,
            poison_imputed=attack.poison_imputed,
            poisoned_labels=attack.poisoned_labels,
        )
        return exposure, trigger, exposure.triggered


def attacked(split: Split, name: str, attack: Attack, victims: Sequence[str], *, repair: bool) -> Rows:
    """Poison, look for the poisoned stays, and attack every victim before and after the default repair."""
    exposure, trigger, poisoned = split.poisoned(attack)
    place = {"seed": split.seed, "attack": name}
    evidence = {model: evidence_of(settings(model, split.seed), exposure, split.trusted) for model in victims}
    audited = evidence["mlp"]
    found = detect(audited, poisoned, split.seed)
    rows = _found(
        place, found, audited, attack.strength * trigger.values if trigger.kind != "missing" else None
    )
    rows[0]["poisoned"] = int(poisoned.sum())
    suspicion = suspicion_to_filter_by(found, audited)
    for model in victims:
        measured = {}
        for state, of in (("poisoned", evidence[model]), ("clean", split.clean_victim(model))):
            bench = Bench(of, split.test, KnownAttack(trigger, attack.strength, attack.poison_imputed))
            measured[state] = bench.measure(state, Repaired(of.victim.model, ""))
            if repair and state == "poisoned":
                for by in suspicion.values():
                    repaired, _ = filter_and_retrain(of, by, split.seed)
                    measured["repaired"] = bench.measure("repaired", Repaired(repaired, ""))
        row = {"row": "victim", **place, "victim": model}
        for state, outcome in measured.items():
            assert outcome.attack_success_rate is not None
            assert outcome.baseline_positive_rate is not None
            row[f"{state}_success"] = outcome.attack_success_rate.rate
            row[f"{state}_untriggered"] = outcome.baseline_positive_rate.rate
            row[f"{state}_auroc"] = outcome.auroc
        rows.append(row)
    return rows


def _found(
    place: dict[str, Any], found: DetectionResult, evidence: Evidence, true_shift: NDArray[np.float64] | None
) -> Rows:
    """The verdict, and one row for each detector."""
    verdict = found.verdict
    clearest = None if verdict.clearest is None else verdict.alarms[verdict.clearest]
    patterns = pattern_records(pattern_in(evidence, place["seed"]), evidence.trusted, true_shift)
    rows: Rows = [
        {
            **{"row": "verdict", **place, "p_value": verdict.p_value, "clearest": verdict.clearest},
            "alarm": verdict.share.raised or verdict.clearest is not None,
            "share_p": verdict.share.p_value,
            "estimated": clearest and [clearest.poisoned, clearest.low, clearest.high],
            "patterns": len(patterns),
            "cosine": patterns[0]["cosine"] if patterns else None,
        }
    ]
    for name, detection in found.detections.items():
        alarm, measures = verdict.alarms.get(name), detection.performance
        rows.append(
            {
                **{"row": "detector", **place, "detector": name, "seconds": detection.seconds},
                "p": alarm and alarm.p_value,
                "excess": alarm and alarm.excess,
                "auroc": measures and measures.auroc.value,
                "recall_at_1": measures and measures.recall_at_1.value,
                "recall_at_5": measures and measures.recall_at_5.value,
            }
        )
    return rows


def clean_cohort(pool: Cohort, sizes: tuple[int, int], number: int) -> Rows:
    """Audit a random split of clean stays; if the number is odd, one that has as many deaths as the pool."""
    random = np.random.default_rng([20, number])
    order, kind = random.permutation(len(pool)), "random split"
    if number % 2:
        # The place of every stay is taken by a stay of the same label.
        order, kind = np.arange(len(pool)), "same labels"
        for label in (0, 1):
            of = np.flatnonzero(pool.labels == label)
            order[of] = random.permutation(of)
    train, trusted = pool.take(order[: sizes[0]]), pool.take(order[sizes[0] : sum(sizes)])
    evidence = evidence_of(settings("mlp", number), exposures.clean(train), trusted, train=False)
    found = detect(evidence, np.zeros(len(train), bool), number)
    return [
        {**row, "kind": kind} for row in _found({"seed": number, "attack": "none"}, found, evidence, None)
    ]


def pooled(cohorts: Sequence[Cohort]) -> Cohort:
    """Join cohorts into one."""
    filled = [cohort.filled_grids for cohort in cohorts]
    return cohort_of(
        np.concatenate([cohort.stays for cohort in cohorts]),
        np.concatenate([cohort.labels for cohort in cohorts]),
        np.concatenate([cohort.grids for cohort in cohorts]),
        np.concatenate([cohort.masks for cohort in cohorts]),
        filled=FilledGrid(
            *(
                np.concatenate([getattr(part, name) for part in filled])
                for name in ("values", "source", "times")
            )
        ),
    )


def read_rows(out: Path, part: str) -> Iterator[dict[str, Any]]:
    """Read all finished rows of a part."""
    for file in sorted(out.glob(f"rows-{part}-*.jsonl")):
        yield from map(json.loads, file.read_text(encoding="utf-8").splitlines())


def keep(out: Path, part: str, place: str, rows: Rows) -> None:
    """Append rows to the file of a part."""
    with (out / f"rows-{part}-{place}.jsonl").open("a", encoding="utf-8") as file:
        file.write("".join(json.dumps(row) + "\n" for row in rows))


def run_attacks(out: Path, part: str, seeds: Sequence[int]) -> None:
    """Make the rows of a part that are missing."""
    attacks, victims = (ATTACKS, VICTIMS) if part == "attacks" else (FAINT, FAINT_VICTIMS)
    done = {(row["seed"], row["attack"]) for row in read_rows(out, part)}
    for seed in seeds:
        wanted = {name: attack for name, attack in attacks.items() if (seed, name) not in done}
        split = Split(seed, out / f"seed-{seed}") if wanted else None
        for name, attack in wanted.items():
            assert split is not None
            rows = attacked(split, name, attack, victims, repair=part == "attacks")
            keep(out, part, str(seed), rows)
            print(part, seed, name, json.dumps(rows[0]), flush=True)


def run_clean(out: Path, cohorts: Sequence[int]) -> None:
    """Audit the clean cohorts that are missing."""
    done = {row["seed"] for row in read_rows(out, "clean")}
    parts = [load_cohort(out / "seed-0" / "data", part) for part in ("train", "val", "test")]
    for number in cohorts:
        if number not in done:
            rows = clean_cohort(pooled(parts), (len(parts[0]), len(parts[1])), number)
            keep(out, "clean", str(number), rows)
            print("clean", number, json.dumps(rows[0]), flush=True)


def write_tables(out: Path) -> None:
    """Write the tables and the pictures of all finished rows."""
    frames = {part: pl.DataFrame(list(read_rows(out, part)), infer_schema_length=None) for part in PARTS}
    for part in ("attacks", "faint"):
        for row, by, measures in (
            ("victim", ["attack", "victim"], None),
            ("detector", ["attack", "detector"], ("auroc", "recall_at_1", "recall_at_5", "p", "seconds")),
            ("verdict", ["attack"], ("p_value", "alarm", "cosine", "patterns")),
        ):
            rows = frames[part].filter(pl.col("row") == row)
            wanted = measures or [
                name for name in rows.columns if name.split("_")[0] in STATES and "_" in name
            ]
            table = None
            for name in wanted:
                values = rows.with_columns(pl.col(name).cast(pl.Float64))
                means = mean_over_seeds(values, by, name).select(
                    *by,
                    pl.col("seeds").alias(f"{name}_seeds"),
                    *(
                        pl.col(old).alias(f"{name}{new}")
                        for old, new in (
                            ("mean", ""),
                            ("ci95_low", "_low"),
                            ("ci95_high", "_high"),
                            ("lowest", "_min"),
                            ("highest", "_max"),
                        )
                    ),
                )
                table = means if table is None else table.join(means, on=by, how="full", coalesce=True)
            assert table is not None
            table.write_csv(out / f"{part}-{row}s.csv")
    clean = frames["clean"].filter(pl.col("row") == "verdict").sort("seed")
    clean.select("seed", "kind", "p_value", "alarm", "share_p").write_csv(out / "clean.csv")
    faint_picture(frames["faint"]).savefig(out / "faint.png", dpi=150)
    clean_picture(frames["clean"]).savefig(out / "clean.png", dpi=150)


STATES = ("poisoned", "clean", "repaired")
PARTS = ("attacks", "faint", "clean")


def faint_picture(rows: pl.DataFrame) -> Figure:
    """Draw success and detection against strength, one panel for each share; shades span the seeds."""
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    panels = figure.subplots(1, len(SHARES), sharey=True)
    for axes, share in zip(panels, SHARES, strict=True):
        names = [f"{share:.0%}, strength {strength:g}" for strength in STRENGTHS]

        def draw(
            of: pl.DataFrame,
            column: str,
            label: str,
            names: Sequence[str] = names,
            axes: Any = axes,
            shaded: bool = True,
            **style: Any,
        ) -> None:
            values = [
                of.filter(pl.col("attack") == name)[column].cast(pl.Float64).drop_nulls().to_numpy()
                for name in names
            ]
            (line,) = axes.plot(STRENGTHS, [each.mean() for each in values], label=label, **style)
            if not shaded:
                return
            low, high = ([end(each) for each in values] for end in (np.min, np.max))
            axes.fill_between(STRENGTHS, low, high, color=line.get_color(), alpha=0.1, linewidth=0)

        for victim, color in zip(FAINT_VICTIMS, ("C0", "C1"), strict=True):
            of = rows.filter((pl.col("row") == "victim") & (pl.col("victim") == victim))
            for state, style in (("poisoned", "-"), ("clean", ":")):
                label = f"{victim.upper()}, {state} victim"
                draw(of, f"{state}_success", label, linestyle=style, color=color, marker="o")
        found = rows.filter((pl.col("row") == "detector") & (pl.col("detector") == "common pattern"))
        draw(found, "recall_at_1", "poisoned stays found at 1% false positives", color="C3", marker="s")
        alarms = rows.filter(pl.col("row") == "verdict")
        grey: dict[str, Any] = {"color": "0.3", "linestyle": "--", "marker": "^", "shaded": False}
        draw(alarms, "alarm", "audits that raise an alarm", **grey)
        axes.set(title=f"{share:.0%} of the stays poisoned", xlabel="strength", ylim=(-0.03, 1.03))
        axes.set_xticks(STRENGTHS)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("share")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def clean_picture(rows: pl.DataFrame) -> Figure:
    """Draw the p-values of clean cohorts against uniform quantiles."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    series = {
        "audit, corrected": rows.filter(pl.col("row") == "verdict")["p_value"],
        **{
            name: rows.filter((pl.col("row") == "detector") & (pl.col("detector") == name))["p"].drop_nulls()
            for name in ("common pattern", "common gaps")
        },
        "share of deaths": rows.filter((pl.col("row") == "verdict") & (pl.col("kind") == "random split"))[
            "share_p"
        ],
    }
    for name, values in series.items():
        if len(values):
            p_values = np.sort(values.to_numpy())
            uniform = (np.arange(len(p_values)) + 0.5) / len(p_values)
            distance = kstest(p_values, "uniform").statistic
            axes.plot(uniform, p_values, ".-", label=f"{name} (distance {distance:.2f})")
    axes.plot([0, 1], [0, 1], color="0.6", linewidth=1)
    axes.set(xlabel="uniform quantile", ylabel="p-value", title="Clean cohorts")
    axes.legend(frameon=False)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path)
    parser.add_argument("--part", choices=(*PARTS, "tables"), default="tables")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--cohorts", type=int, nargs="+", default=list(range(50)))
    arguments = parser.parse_args()
    if arguments.part == "tables":
        write_tables(arguments.out)
    elif arguments.part == "clean":
        run_clean(arguments.out, arguments.cohorts)
    else:
        run_attacks(arguments.out, arguments.part, arguments.seeds)


if __name__ == "__main__":
    main()
