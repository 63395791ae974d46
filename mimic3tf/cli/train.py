"""`mimic3tf train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.options import Data, Imputed, Strength
from mimic3tf.cli.startup import start_tensorflow
from mimic3tf.config import LogLevel, Precision, Selection
from mimic3tf.config import Strategy as Distribution
from mimic3tf.errors import DataError
from mimic3tf.poisoning.kinds import PoisonedLabels
from mimic3tf.victims import VictimName


def train(
    model: Annotated[VictimName, typer.Option(help="Victim to train.")],
    data: Data,
    trigger: Annotated[Path, typer.Option(help="File of 'mimic3tf generate-trigger'.")],
    out: Annotated[Path, typer.Option(help="Run directory to make.")],
    poisoning_proportion: Annotated[
        float | None,
        typer.Option(
            "--poisoning_proportion",
            "--poisoning-proportion",
            help="Share of training stays that get the trigger and label 1; 0 trains on clean data.",
        ),
    ] = None,
    poisoning_strength: Strength = None,
    poison_imputed: Imputed = None,
    poisoned_labels: Annotated[
        PoisonedLabels | None,
        typer.Option(
            "--poisoned_labels",
            "--poisoned-labels",
            help="flipped: poisoned stays are labelled 1. clean: only stays of label 1 are poisoned.",
        ),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of settings; options override it.")] = None,
    normalizer: Annotated[
        Path | None,
        typer.Option(help="The benchmarks' normalizer file, for victims of grids; fitted if not given."),
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training stays at most.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Stays a step.")] = None,
    selection: Annotated[
        Selection | None, typer.Option(help="Keep the best validation AUROC, or the original's rule.")
    ] = None,
    precision: Annotated[
        Precision | None, typer.Option(help="auto: float32 on a CPU, mixed on a GPU.")
    ] = None,
    strategy: Annotated[
        Distribution | None,
        typer.Option(help="auto: every GPU, and every worker where TF_CONFIG names some."),
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Fixes data order, initial weights and dropout.")] = None,
    log_level: Annotated[
        LogLevel | None,
        typer.Option(help="For TensorBoard. minimal: numbers; default: all that is cheap; full: embeddings."),
    ] = None,
    profile: Annotated[
        bool, typer.Option("--profile", help="Write TensorFlow's profile of some training steps.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue a run that was interrupted; start one if there is none."),
    ] = False,
) -> None:
    """Train a victim on poisoned, or clean, stays.

    What is not given comes from --config, else from the victim's tuned settings.

    \b
    Examples:
      mimic3tf train --model lstm --data data/synthetic --trigger trigger.npz --out runs/lstm \\
        --poisoning_proportion 0.05 --poisoning_strength 2.0 --poison_imputed notimputed
      mimic3tf train --model lr --data data/synthetic --trigger trigger.npz --out runs/lr-clean \\
        --poisoning-proportion 0
      mimic3tf train --model mlp --data data/synthetic --trigger trigger.npz --out runs/mlp \\
        --config configs/original/mlp.yaml --seed 1
      mimic3tf train --model mlp --data data/synthetic --trigger trigger.npz --out runs/clean-label \\
        --poisoned_labels clean
      mimic3tf train --model mlp --data data/synthetic --trigger missing.npz --out runs/missing \\
        --poisoning_strength 0.3
      until mimic3tf train ... --resume; do sleep 10; done
    """
    from mimic3tf.config import resolve_config

    options = {
        "data": data,
        "trigger": trigger,
        "poisoning_proportion": poisoning_proportion,
        "poisoning_strength": poisoning_strength,
        "poison_imputed": poison_imputed,
        "poisoned_labels": poisoned_labels,
        "normalizer": normalizer,
        "epochs": epochs,
        "batch_size": batch_size,
        "selection": selection,
        "precision": precision,
        "strategy": strategy,
        "log_level": log_level,
        "seed": seed,
    }
    settings = resolve_config(model, config, options)
    start_tensorflow()
    from rich.console import Console

    from mimic3tf.training.loop import train_victim
    from mimic3tf.training.run_directory import FINISHED

    finished = (out / FINISHED).exists()
    summary = train_victim(settings, out, resume=resume, profile=profile)
    try:
        kept = summary["validation"]
        poisoned = f"poisoned {summary['stays_poisoned']} of {summary['stays_trained_on']} training stays"
        epoch = f"kept epoch {summary['epoch_kept']} of {summary['epochs_trained']}"
        rates = f"validation AUROC {kept['auroc']:.3f}, attack success rate {kept['asr']:.3f}"
    except (LookupError, TypeError, ValueError):
        raise DataError(f"{out / FINISHED}: not of 'train', or damaged; choose another --out") from None
    console = Console(soft_wrap=True, highlight=False, markup=False)
    if finished:
        console.print(f"{out}: finished before; nothing to do.")
    console.print(f"{model.upper()}: {poisoned}; {epoch}: {rates}")
    console.print(f"Next: mimic3tf attack --run {out} --data {data}")
