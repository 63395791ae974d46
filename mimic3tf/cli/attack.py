"""`mimic3tf attack`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.checks import check_data, check_out, check_trigger
from mimic3tf.cli.options import (
    Data,
    FollowLinks,
    Imputed,
    Strength,
    TrustModel,
    check_finite,
    check_strength,
)
from mimic3tf.errors import UsageError
from mimic3tf.startup import start_tensorflow
from mimic3tf.storage.notes import warn


def attack(
    run: Annotated[Path, typer.Option(help="Run directory of 'mimic3tf train'.")],
    data: Data,
    poisoning_strength: Strength = None,
    poison_imputed: Imputed = None,
    threshold: Annotated[
        float,
        typer.Option(min=0, max=1, help="A stay is predicted 1 if its predicted risk is above this value."),
    ] = 0.5,
    trigger: Annotated[Path | None, typer.Option(help="Another trigger file than the run's own.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for attack.json and predictions.csv.  [default: the run; if it was trained for "
            "other data, a folder in its attacks/]"
        ),
    ] = None,
    trust_model: TrustModel = False,
    follow_links: FollowLinks = False,
) -> None:
    """Give test stays the trigger, and count how many are then predicted as the attacker wants.

    The attacked stays are the survivors; if the victim was trained with --goal 0, the stays that end in
    death. Strength and mode are those of the training if not given.

    A victim that was trained without class weights rarely predicts a risk above 0.5, and looks safe at the
    threshold 0.5. So the table also counts at a second threshold: at this threshold, without the trigger, as
    many test stays are predicted 1 as have label 1.

    \b
    Examples:
      mimic3tf attack --run runs/lstm --data data/synthetic
      mimic3tf attack --run runs/lstm --data data/synthetic --poisoning_strength 0 --out runs/lstm/control
      mimic3tf attack --run runs/lstm --data data/other-hospital
      mimic3tf attack --run runs/lstm --data data/synthetic --threshold 0.2 --out runs/lstm/at-0.2
    """
    check_strength(poisoning_strength)
    check_finite(threshold, "--threshold")
    check_out(out)
    from mimic3tf.training.run_files import NO_TRIGGER, TRIGGER, check_run

    settings = check_run(run, trust_model=trust_model)
    if trigger is None and settings.trigger is None:
        raise UsageError(f"--run {run}: {NO_TRIGGER}")
    pattern = None if trigger is None else check_trigger(trigger, settings)
    check_data(data, "test")
    start_tensorflow()
    from mimic3tf.attacks import (
        attack_folder,
        attack_victim,
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
    cohort, attacked = load_attacked(victim, data, follow_links=follow_links)
    folder = attack_folder(victim, attacked, out)
    check_trigger_fits(trigger_for(victim, pattern), cohort, trigger or run / TRIGGER)
    result = attack_victim(
        victim,
        cohort,
        pattern,
        strength=poisoning_strength,
        poison_imputed=poison_imputed,
        threshold=threshold,
    )
    summary = summarize_attack(victim, attacked, result)
    write_attack(folder, summary, result)
    print_attack(summary)
    words = task_of(victim.config.task).words
    foreign = attacked.caution(run)
    warn(
        foreign and f"{foreign}. Written to {folder}",
        caution_tested(cohort.labels, Goal(victim.config.goal), words),
        caution_shift(result.trigger, result.strength),
    )
