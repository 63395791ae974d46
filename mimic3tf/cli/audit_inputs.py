"""What `mimic3tf audit` audits: a run, a benchmark directory, or files of arrays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mimic3tf.cli.checks import check_data, check_files, check_trigger
from mimic3tf.cli.options import check_goal, check_task, label_of
from mimic3tf.errors import DataError, UsageError
from mimic3tf.tasks.registry import MORTALITY, TASKS

if TYPE_CHECKING:
    from mimic3tf.audit import AuditReport
    from mimic3tf.data.cohort import Cohort
    from mimic3tf.poisoning.manifest import Manifest
    from mimic3tf.poisoning.trigger import Trigger


AuditOut = Annotated[
    Path, typer.Option("--out", help="Folder for audit.html, audit.json, tables and figures for TensorBoard.")
]
RunToAudit = Annotated[
    Path | None, typer.Option("--run", help="Run directory of 'mimic3tf train'; needs --data.")
]
DataToAudit = Annotated[
    Path | None,
    typer.Option(
        "--data", help="Benchmark directory of the run; without --run, its training stays are audited."
    ),
]
ArraysFile = Annotated[
    Path | None,
    typer.Option("--arrays", help="Your own training stays: .npz with x and y, or a .parquet or .csv table."),
]
TrustedFile = Annotated[
    Path | None, typer.Option("--trusted", help="Trusted stays for --arrays, in a file of the same kind.")
]
LabelColumn = Annotated[
    str | None, typer.Option("--label", help="Column of a table that holds the label.  [default: y]")
]
IdColumn = Annotated[
    str | None, typer.Option("--id", help="Column of a table that holds the name of the stay.")
]
AuditedTask = Annotated[
    str | None,
    typer.Option(
        "--task",
        help=f"What the labels of --data say: {', '.join(TASKS)}.  [default: {MORTALITY.name}, or the run's]",
    ),
]
AuditedLabel = Annotated[
    str | None,
    typer.Option(
        "--goal-label",
        help="Which of the task's labels may be attacked, by its name or a part of it.  [default: the first, "
        "or the run's]",
    ),
]
TargetLabel = Annotated[
    int | None,
    typer.Option(
        "--target", help="Label, class or column of y that an attacker may have given; 1 if not given."
    ),
]
ModelFile = Annotated[
    Path | None,
    typer.Option("--model", help="Your Keras model (.keras), which reads --arrays as they are."),
]
TrustModel = Annotated[
    bool,
    typer.Option("--trust-model", help="Run code in the file of --model, or code that the run names."),
]
PredictionsFile = Annotated[
    Path | None,
    typer.Option(
        "--predictions", help="What your model predicts for the training stays: CSV with stay, prediction."
    ),
]
TrueTrigger = Annotated[
    Path | None,
    typer.Option("--trigger", help="The true trigger, to compare with; the run's own if not given."),
]
ManifestFile = Annotated[
    Path | None,
    typer.Option(
        "--manifest", help="Manifest of 'mimic3tf poison', if the run was trained on a poisoned copy."
    ),
]
PowerDraws = Annotated[
    int,
    typer.Option(
        "--power",
        min=0,
        metavar="N",
        help="Simulate N attacks of each of six strengths and shares on these stays, and count how many are "
        "found. Each takes up to a minute.",
    ),
]


@dataclass(frozen=True)
class Sources:
    """The options of `mimic3tf audit` that name what is audited; see its help."""

    run: Path | None
    data: Path | None
    arrays: Path | None
    trusted: Path | None
    label: str | None
    id_column: str | None
    target: int | None
    model: Path | None
    trust_model: bool
    predictions: Path | None
    task: str | None
    goal_label: str | None

    def check(
        self,
        trigger: Path | None,
        manifest: Path | None,
        *,
        no_repairs: bool,
        all_repairs: bool,
        follow_links: bool,
    ) -> tuple[Trigger | None, Manifest | None]:
        """Refuse combinations and files before the long work, and read what is known of the attack.

        Options that have no effect on what is audited are refused, too.

        Raises:
            UsageError: the options do not go together, or a file is missing.
            DataError: a run, a directory or a trigger is malformed.
        """
        if self.arrays is None and self.data is None:
            needs = "--data, its benchmark directory" if self.run else "--run and --data, --data, or --arrays"
            raise UsageError(f"nothing to audit: give {needs}; see 'mimic3tf audit --help'")
        if self.arrays is not None and (self.data or self.run):
            raise UsageError("--arrays: cannot be given together with --data or --run")
        if self.arrays is not None and self.trusted is None:
            raise UsageError("--arrays: needs --trusted, a file of stays that nobody can have tampered with")
        own = {"trusted": self.trusted, "model": self.model, "predictions": self.predictions}
        self._refuse(self.arrays is None, "--arrays", own)
        of_directories = {"task": self.task, "goal-label": self.goal_label}
        self._refuse(self.run is not None, "--arrays or --data", {"target": self.target})
        self._refuse(self.run is not None, "--data without --run, whose settings say it", of_directories)
        self._refuse(self.arrays is not None, "--data", of_directories)
        of_runs = {"no-repairs": no_repairs or None, "all-repairs": all_repairs or None}
        self._refuse(self.run is None, "--run", {"trigger": trigger, "manifest": manifest} | of_runs)
        self._refuse(self.data is None, "--data", {"follow-links": follow_links or None})
        with_code = {"trust-model": self.trust_model or None}
        self._refuse(self.run is None and self.model is None, "--run or --model", with_code)
        no_table = self.arrays is None or self.arrays.suffix == ".npz"
        of_tables = {"label": self.label, "id": self.id_column}
        self._refuse(no_table, "a .parquet or .csv table of --arrays", of_tables)
        if self.model is not None and self.predictions is not None:
            raise UsageError("--predictions: cannot be given together with --model, which predicts itself")
        check_files("--arrays", [self.arrays])
        check_files("--trusted", [self.trusted])
        check_files("--model", [self.model])
        check_files("--predictions", [self.predictions])
        true_trigger = None
        if self.run is not None:
            from mimic3tf.training.run_files import check_run

            settings = check_run(self.run, trust_model=self.trust_model)
            true_trigger = None if trigger is None else check_trigger(trigger, settings)
        if self.data is not None:
            check_data(self.data, "train", "val")
        if manifest is None:
            return true_trigger, None
        from mimic3tf.poisoning.manifest import read_manifest

        return true_trigger, read_manifest(manifest)

    @staticmethod
    def _refuse(wrong: bool, needed: str, options: dict[str, Any]) -> None:
        for name, value in options.items():
            if wrong and value is not None:
                raise UsageError(f"--{name}: goes with {needed} only")


def audited(
    sources: Sources,
    *,
    trigger: Trigger | None,
    trigger_file: Path | None,
    manifest: Manifest | None,
    repairs: bool,
    all_detectors: bool,
    all_repairs: bool,
    power: int,
    seed: int,
    follow_links: bool,
) -> AuditReport:
    """Audit what the options name."""
    options: dict[str, Any] = {"all_detectors": all_detectors, "power": power}
    if sources.arrays is not None:
        return _of_arrays(sources, seed=seed, **options)
    assert sources.data is not None
    if sources.run is None:
        return _of_directory(sources, seed=seed, follow_links=follow_links, **options)
    from mimic3tf.audit import AuditReport
    from mimic3tf.defences.audit import audit_run
    from mimic3tf.training.run_directory import load_run

    return AuditReport(
        audit_run(
            load_run(sources.run, trust_model=sources.trust_model),
            sources.data,
            manifest=manifest,
            trigger=trigger,
            trigger_file=trigger_file,
            repairs=repairs,
            all_repairs=all_repairs,
            follow_links=follow_links,
            **options,
        )
    )


def _of_directory(sources: Sources, *, follow_links: bool, **options: Any) -> AuditReport:
    from mimic3tf.audit import AuditReport
    from mimic3tf.data.directory import Split
    from mimic3tf.data.loading import load_cohort
    from mimic3tf.defences.array_evidence import evidence_of
    from mimic3tf.defences.audit import audit_stays
    from mimic3tf.defences.whole_stays import whole_stays

    data, task = sources.data, check_task(sources.task or MORTALITY.name)
    assert data is not None
    suspected, label = 1 if sources.target is None else sources.target, None
    if task.targets.names:
        options["goal_label"] = label = label_of(task.name, sources.goal_label)
    goal = check_goal(task.name, suspected, sources.goal_label)

    def stays(split: Split) -> Cohort:
        cohort = load_cohort(data, split, task=task.name, follow_links=follow_links)
        return cohort if task.period is not None else whole_stays(cohort, goal, label)[0]

    evidence = evidence_of(stays("train"), stays("val"), suspected, None, f"--data {data}")
    return AuditReport(audit_stays(evidence, str(data), "no model", **options))


def _of_arrays(sources: Sources, **options: Any) -> AuditReport:
    from mimic3tf import audit
    from mimic3tf.data.array_files import read_own_arrays
    from mimic3tf.data.predictions import in_order_of, read_predictions

    assert sources.arrays is not None
    assert sources.trusted is not None
    training, trusted = (
        read_own_arrays(path, sources.label or "y", sources.id_column)
        for path in (sources.arrays, sources.trusted)
    )
    given: dict[str, Any] = {
        "x": training.x,
        "y": training.y,
        "trusted": (trusted.x, trusted.y),
        "ids": training.ids,
        "channels": training.channels or trusted.channels,
        "target": sources.target,
        **options,
    }
    if training.channels and trusted.channels and training.channels != trusted.channels:
        raise DataError(f"--trusted {sources.trusted}: has other columns than {sources.arrays}")
    if sources.model is not None:
        report = audit.keras_model(sources.model, trust_model=sources.trust_model, **given)
        report.record["model"] = str(sources.model)
    elif sources.predictions is not None:
        ids = training.ids or [str(stay) for stay in range(len(training.x))]
        found = in_order_of(read_predictions(sources.predictions), ids, None, sources.arrays)
        report = audit.model(found.probabilities, **given)
        report.record["model"] = str(sources.predictions)
    else:
        report = audit.training_set(**given)
    report.record["data"] = str(sources.arrays)
    return report
