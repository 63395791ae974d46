"""`mimic3tf attack`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from mimic3tf.cli.checks import check_data, check_files, check_out, check_trigger
from mimic3tf.cli.options import (
    PREDICTED_TASKS,
    FollowLinks,
    GoalLabelSetting,
    GoalSetting,
    Imputed,
    PredictedTask,
    Strength,
    TrustModel,
    check_finite,
    check_goal,
    check_predicted,
    check_strength,
    label_of,
)
from mimic3tf.errors import DataError, UsageError
from mimic3tf.startup import start_tensorflow
from mimic3tf.storage.notes import warn


def _two_files(files: tuple[Path, Path] | None) -> tuple[Path, Path] | None:
    # An option that follows a single file is taken for the second file.
    if files is not None and str(files[1]).startswith("--"):
        raise UsageError("--predictions: takes two files, without the trigger and with it; one is given")
    return files


PredictionFiles = Annotated[
    tuple[Path, Path] | None,
    typer.Option(
        metavar="CLEAN TRIGGERED",
        callback=_two_files,
        help="Instead of --run: two CSV files with the predictions of any model, for the test stays "
        "without and with the trigger, with the columns of 'mimic3tf evaluate'.",
    ),
]


def attack(
    run: Annotated[Path | None, typer.Option(help="Run directory of 'mimic3tf train'.")] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="With --run: directory in the layout of the MIMIC-III benchmarks."),
    ] = None,
    poisoning_strength: Strength = None,
    poison_imputed: Imputed = None,
    threshold: Annotated[
        float,
        typer.Option(min=0, max=1, help="A stay is predicted 1 if its predicted risk is above this value."),
    ] = 0.5,
    trigger: Annotated[Path | None, typer.Option(help="Another trigger file than the run's own.")] = None,
    at: Annotated[
        float | None,
        typer.Option(min=0, help="Hour of the stay at which the trigger begins; the training's by default."),
    ] = None,
    control: Annotated[
        Path | None,
        typer.Option(help="Run of a clean victim, which is attacked in the same way for comparison."),
    ] = None,
    predictions: PredictionFiles = None,
    labels: Annotated[
        Path | None,
        typer.Option(help="With --predictions: listfile of the test stays; needed without a y_true."),
    ] = None,
    goal: GoalSetting = None,
    task: PredictedTask = None,
    goal_label: GoalLabelSetting = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for attack.json and predictions.csv.  [default: the run; if it was trained for "
            "other data, a folder in its attacks/] With --predictions: for outcome.json and predictions.csv."
        ),
    ] = None,
    trust_model: TrustModel = False,
    follow_links: FollowLinks = False,
) -> None:
    """Give test stays the trigger, and count its successes.

    A success is a stay that is then predicted as the attacker wants. The attacked stays are the survivors; if
    the victim was trained with --goal 0, the stays that end in death. Strength and mode are those of the
    training if not given.

    A victim that was trained without class weights rarely predicts a risk above 0.5, and looks safe at the
    threshold 0.5. So the table also counts at a second threshold: at this threshold, without the trigger, as
    many test stays are predicted 1 as have label 1.

    With --control, the table shows the same attack on a clean victim, too, and both at the threshold at which
    the clean victim predicts label 1 for 5% of the stays (or hours) of label 0.

    --predictions attacks a model of any other program. 'mimic3tf poison' makes its training data;
    'mimic3tf poison --test' makes the test stays with the trigger. Stays are matched by name.

    \b
    Examples:
      mimic3tf attack --run runs/lstm --data data/synthetic
      mimic3tf attack --run runs/lstm --data data/synthetic \\
        --poisoning_strength 0 --out runs/lstm/control
      mimic3tf attack --run runs/lstm --data data/other-hospital
      mimic3tf attack --run runs/shock --data data/phenotyping \\
        --control runs/phenotyping-clean
      mimic3tf attack --run runs/lstm --data data/synthetic --threshold 0.2 \\
        --out runs/lstm/at-0.2
      mimic3tf attack --predictions clean.csv triggered.csv \\
        --labels data/synthetic/test_listfile.csv
      mimic3tf attack --predictions clean.csv triggered.csv \\
        --labels data/phenotyping/test_listfile.csv --task phenotyping \\
        --goal-label Shock
    """
    check_finite(threshold, "--threshold")
    check_finite(at, "--at")
    check_out(out)
    of_runs = {
        "--data": data,
        "--poisoning_strength": poisoning_strength,
        "--poison_imputed": poison_imputed,
        "--trigger": trigger,
        "--at": at,
        "--control": control,
        "--follow-links": follow_links or None,
    }
    if predictions is not None:
        _refuse({"--run": run, **of_runs}, "--predictions: the predictions are made already")
        _attack_predictions(predictions, labels, task or PREDICTED_TASKS[0], goal, goal_label, threshold, out)
        return
    of_predictions = {"--labels": labels, "--task": task, "--goal": goal, "--goal-label": goal_label}
    _refuse(of_predictions, "--run: the run and its data say it")
    if run is None or data is None:
        missing = "--run" if run is None else "--data"
        raise UsageError(f"{missing}: is needed to attack a run; to attack another model, give --predictions")
    check_strength(poisoning_strength)
    how = {"strength": poisoning_strength, "poison_imputed": poison_imputed, "at": at, "threshold": threshold}
    _attack_run(run, data, how, trigger, control, out, trust_model=trust_model, follow_links=follow_links)


def _refuse(options: Mapping[str, object], reason: str) -> None:
    for option, value in options.items():
        if value is not None:
            raise UsageError(f"{option}: cannot be used with {reason}; leave one of the two out")


def _attack_predictions(
    files: tuple[Path, Path],
    listfile: Path | None,
    predicted: str,
    target: int | None,
    goal_label: str | None,
    threshold: float,
    out: Path | None,
) -> None:
    check_files("--predictions", files)
    check_files("--labels", [listfile])
    check_predicted(predicted)
    from mimic3tf.data.predictions import FORMS, in_order_of, read_predictions, with_labels_of
    from mimic3tf.poisoning.cautions import caution_tested
    from mimic3tf.poisoning.goal import Goal
    from mimic3tf.poisoning.outcome import measure_outcome
    from mimic3tf.tables.outcome import OUTCOME, summarize_predictions, write_outcome
    from mimic3tf.tables.terminal import print_attack
    from mimic3tf.tasks.registry import LENGTH_OF_STAY, LENGTH_OF_STAY_HOURS, task_of

    # Files of length of stay hold hours.
    task = LENGTH_OF_STAY_HOURS if predicted == LENGTH_OF_STAY.name else task_of(predicted)
    label, goal = label_of(task.name, goal_label), check_goal(task.name, target, goal_label)
    form = FORMS[predicted]
    clean, triggered = (read_predictions(file, form) for file in files)
    for each in (clean, triggered) if form.many else ():
        if each.probabilities.shape[1] != len(task.targets.names):
            raise DataError(
                f"{each.path}: has {each.probabilities.shape[1]} predictions a stay; {task.name} has "
                f"{len(task.targets.names)}"
            )
    if listfile is not None:
        clean = with_labels_of(clean, listfile, predicted)
    if clean.labels is None:
        column = form.labels + "1" * form.many
        raise DataError(f"{clean.path}: has no column '{column}'; give the listfile of the stays as --labels")
    source = listfile or clean.path
    triggered = in_order_of(triggered, clean.stays.tolist(), clean.labels, source, clean.hours)
    outcome = measure_outcome(
        clean.stays,
        clean.labels,
        clean.probabilities,
        triggered.probabilities,
        task=task,
        goal=goal,
        threshold=threshold,
        hours=None if clean.hours is None else clean.hours.astype("float64"),
    )
    summary = summarize_predictions(*files, task.name, label, outcome)
    if out is not None:
        write_outcome(out, OUTCOME, summary, outcome)
    print_attack(summary)
    warn(caution_tested(outcome.labels, Goal(goal.target), task.words))


def _attack_run(
    run: Path,
    data: Path,
    how: dict[str, Any],
    trigger: Path | None,
    control: Path | None,
    out: Path | None,
    *,
    trust_model: bool,
    follow_links: bool,
) -> None:
    from mimic3tf.training.run_files import NO_TRIGGER, TRIGGER, check_run

    settings = check_run(run, trust_model=trust_model)
    if trigger is None and settings.trigger is None:
        raise UsageError(f"--run {run}: {NO_TRIGGER}")
    pattern = None if trigger is None else check_trigger(trigger, settings)
    if control is not None:
        check_run(control, trust_model=trust_model, place="--control ")
    check_data(data, "test")
    start_tensorflow()
    from mimic3tf.attacks import (
        attack_folder,
        attack_victim,
        check_control,
        load_attacked,
        summarize_attack,
        trigger_for,
        write_attack,
    )
    from mimic3tf.poisoning.cautions import caution_shift, caution_tested
    from mimic3tf.poisoning.goal import Goal
    from mimic3tf.poisoning.trigger import check_trigger_fits
    from mimic3tf.tables.terminal import print_attack
    from mimic3tf.tasks.registry import task_of
    from mimic3tf.training.run_directory import load_run

    victim = load_run(run, trust_model=trust_model)
    clean = None
    if control is not None:
        clean = load_run(control, trust_model=trust_model)
        check_control(clean, victim)
    cohort, attacked = load_attacked(victim, data, follow_links=follow_links)
    folder = attack_folder(victim, attacked, out)
    check_trigger_fits(trigger_for(victim, pattern), cohort, trigger or run / TRIGGER)
    result = attack_victim(
        victim,
        cohort,
        pattern,
        control=clean,
        **how,
    )
    summary = summarize_attack(victim, attacked, result)
    write_attack(folder, summary, result)
    print_attack(summary)
    words, goal = task_of(victim.config.task).words, victim.config.attack_goal
    foreign = attacked.caution(run)
    warn(
        foreign and f"{foreign}. Written to {folder}",
        caution_tested(goal.of(cohort.labels), Goal(goal.target), words),
        caution_shift(result.trigger, result.strength),
    )
