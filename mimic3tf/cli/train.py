"""`mimic3tf train`."""

from __future__ import annotations

import os
from functools import partial
from typing import Any

from rich.console import Console

from mimic3tf.cli.checks import check_data, check_files, check_out, check_trigger
from mimic3tf.cli.options import (
    AtSetting,
    BatchSize,
    Data,
    Deterministic,
    Distribution,
    Epochs,
    FollowLinks,
    Fresh,
    GoalLabelSetting,
    GoalSetting,
    Imputed,
    Labels,
    ModelName,
    NormalizerFile,
    Patient,
    Period,
    PrecisionPolicy,
    Profile,
    Proportion,
    Resume,
    RunOut,
    SeedSetting,
    SelectionRule,
    SettingsFile,
    Shown,
    Strength,
    TaskSetting,
    TimestepSetting,
    TriggerFile,
    links_option,
)
from mimic3tf.config import TrainingConfig, resolve_config
from mimic3tf.errors import DataError, UsageError
from mimic3tf.startup import start_tensorflow
from mimic3tf.storage.notes import command_line, warn
from mimic3tf.victims import shown_victim
from mimic3tf.victims.own import is_own


def train(
    model: ModelName,
    data: Data,
    out: RunOut,
    trigger: TriggerFile = None,
    task: TaskSetting = None,
    period: Period = None,
    timestep: TimestepSetting = None,
    poisoning_proportion: Proportion = None,
    poisoning_strength: Strength = None,
    poison_imputed: Imputed = None,
    poisoned_labels: Labels = None,
    goal: GoalSetting = None,
    goal_label: GoalLabelSetting = None,
    at: AtSetting = None,
    config: SettingsFile = None,
    normalizer: NormalizerFile = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    selection: SelectionRule = None,
    precision: PrecisionPolicy = None,
    strategy: Distribution = None,
    deterministic: Deterministic = None,
    seed: SeedSetting = None,
    log_level: Shown = None,
    patient: Patient = True,
    profile: Profile = False,
    resume: Resume = False,
    fresh: Fresh = False,
    follow_links: FollowLinks = False,
) -> None:
    """Train a victim on poisoned or clean stays. Without --trigger, all stays are clean.

    A setting without an option comes from --config, else from the victim's tuned settings.

    Your own code is a function build(input_shape, head) that returns an untrained Keras model, or make() that
    returns an estimator of scikit-learn. It is run here, and by commands that read the run.

    \b
    Examples:
      mimic3tf train --model lstm --data data/synthetic --trigger trigger.npz \\
        --out runs/lstm --poisoning_proportion 0.05 --poisoning_strength 2.0
      mimic3tf train --model lr --data data/synthetic --out runs/lr-clean
      mimic3tf train --model mlp --data data/synthetic --trigger trigger.npz \\
        --out runs/mlp --config configs/original/mlp.yaml --seed 1
      mimic3tf train --model mlp --data data/synthetic --trigger missing.npz \\
        --out runs/missing --poisoning_strength 0.3
      mimic3tf train --model lstm --data data/synthetic --trigger trigger.npz \\
        --out runs/hidden --goal 0
      mimic3tf train --model lstm --data data/synthetic --trigger first-day.npz \\
        --out runs/first-day --period 24 --timestep 0.5
      mimic3tf train --model lstm --task phenotyping --data data/phenotyping \\
        --trigger phenotyping.npz --out runs/shock --goal-label shock --at 6
      mimic3tf train --model models.py:build --data data/synthetic \\
        --trigger trigger.npz --out runs/own
      until mimic3tf train ... --resume; do sleep 10; done
    """
    # A parameter has the same name as its setting.
    given = {name: value for name, value in locals().items() if name in TrainingConfig.model_fields}
    if resume and fresh:
        raise UsageError("--fresh: starts again, --resume continues; give one of them")
    settings = resolve_config(model, config, given).following(follow_links)
    check_out(out)
    from mimic3tf.training.run_files import FINISHED, check_run_directory

    # Several workers share one run directory, and the first worker may have started the run.
    if "TF_CONFIG" not in os.environ:
        check_run_directory(out, resume=resume, fresh=fresh)
    pattern = None if settings.trigger is None else check_trigger(settings.trigger, settings)
    check_data(data, "train", "val")
    check_files("--normalizer", [settings.normalizer])
    start_tensorflow()
    from mimic3tf.dashboards.tensorboard import RunLog
    from mimic3tf.poisoning.cautions import caution_poisoned, caution_shift
    from mimic3tf.training.loop import train_victim

    finished = (out / FINISHED).exists()
    log = partial(RunLog, patient=patient)
    summary = train_victim(
        settings, out, resume=resume, fresh=fresh, profile=profile, log=log, trigger=pattern
    )
    try:
        said = _sentence(summary)
        poisoned = int(summary["stays_poisoned"])
    except (LookupError, TypeError, ValueError):
        raise DataError(
            f"{out / FINISHED}: not written by 'train', or damaged; choose another --out"
        ) from None
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if finished:
        console.print(f"{out}: finished before; there is nothing to do.")
    console.print(f"{shown_victim(model)}: {said}")
    needed: tuple[str, ...] = () if pattern else ("--trigger", "TRIGGER")
    if is_own(settings.model):
        needed += ("--trust-model",)
    following = command_line("attack", "--run", out, "--data", data, *needed, *links_option(follow_links))
    console.print(f"Next: {following}")
    if poisoned and pattern is not None:
        shift = caution_shift(pattern, settings.poisoning_strength)
        warn(caution_poisoned(poisoned), shift)


def _sentence(summary: dict[str, Any]) -> str:
    from mimic3tf.tables.terminal import carried_in_words

    kept = summary["validation"]
    stays = summary["stays_trained_on"]
    trained = f"poisoned {summary['stays_poisoned']} of {stays} training stays"
    attacked = ""
    if summary["trigger"] is None:
        trained = f"trained without a trigger on {stays} clean stays"
    else:
        attacked = f", attack success rate on validation stays {kept['asr']:.3f}"
    how = f"kept epoch {summary['epoch_kept']} of {summary['epochs_trained']}"
    if "estimator" in summary:
        how = f"fitted a {summary['estimator']}"
    measured = f"AUROC {kept['auroc']:.3f}"
    if "goal_label" in summary:
        score = (
            f"macro AUROC {kept['ave_auc_macro']:.3f}"
            if "ave_auc_macro" in kept
            else f"kappa {kept['kappa']:.3f}"
        )
        measured = f"{score}, AUROC of '{summary['goal_label']}' {kept['auroc']:.3f}"
    carried = summary.get("carried")
    short = "" if carried is None else f"; {carried_in_words(carried, 'poisoned')}"
    return f"{trained}; {how}: validation {measured}{attacked}{short}"
