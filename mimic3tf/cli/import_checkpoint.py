"""`mimic3tf import-checkpoint`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.checks import check_data, check_files, check_out, check_trigger
from mimic3tf.cli.options import Data, FollowLinks, Imputed, Strength, links_option
from mimic3tf.errors import UsageError
from mimic3tf.startup import start_tensorflow
from mimic3tf.storage.notes import command_line
from mimic3tf.victims import OriginalVictim


def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="PyTorch state dict that the original code saved.")],
    model: Annotated[OriginalVictim, typer.Option(help="Victim in the checkpoint.")],
    data: Data,
    trigger: Annotated[Path, typer.Option(help="File of 'mimic3tf generate-trigger' to attack with.")],
    out: Annotated[Path, typer.Option(help="Run directory to make.")],
    poisoning_proportion: Annotated[
        float,
        typer.Option(
            "--poisoning_proportion",
            "--poisoning-proportion",
            help="Share of the training stays that were poisoned in its training; 0 for a clean victim.",
        ),
    ],
    poisoning_strength: Strength = None,
    poison_imputed: Imputed = None,
    normalizer: Annotated[
        Path | None, typer.Option(help="The benchmarks' normalizer file, for the LSTM; fitted if not given.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Distinguishes runs of one setting in 'mimic3tf results'.")] = 0,
    follow_links: FollowLinks = False,
) -> None:
    """Make a run from a PyTorch checkpoint of the original.

    'mimic3tf attack' takes this run. Only numbers are read from the file, nothing in it is run, and a file
    with other contents is refused. A checkpoint does not contain the standardization of its inputs. The
    command fits it again, on the training stays of --data with the trigger and settings given here, or reads
    it from --normalizer.

    \b
    Examples:
      mimic3tf import-checkpoint lr.pt --model lr --data data/mimic3 \\
        --trigger trigger.npz --out runs/lr --poisoning_proportion 0.05 \\
        --poisoning_strength 2.0 --poison_imputed notimputed
      mimic3tf import-checkpoint clean.pt --model lstm --data data/mimic3 \\
        --trigger trigger.npz --out runs/lstm-clean --poisoning_proportion 0 \\
        --normalizer ihm_ts1.0.normalizer
    """
    from mimic3tf.config import original_config, resolve_config

    if normalizer is not None and model != "lstm":
        raise UsageError(f"--normalizer: is for --model lstm; the inputs of {model} are features")
    options = {
        "data": data,
        "trigger": trigger,
        "poisoning_proportion": poisoning_proportion,
        "poisoning_strength": poisoning_strength,
        "poison_imputed": poison_imputed,
        "normalizer": normalizer,
        "precision": "float32",
        "seed": seed,
    }
    settings = resolve_config(model, original_config(model), options).following(follow_links)
    check_out(out)
    from mimic3tf.training.run_files import check_run_directory

    check_run_directory(out)
    check_files("CHECKPOINT", [checkpoint])
    check_trigger(trigger, settings)
    check_data(data, "train")
    check_files("--normalizer", [normalizer])
    start_tensorflow()
    from rich.console import Console

    from mimic3tf.training import import_checkpoint as importer

    summary = importer.import_checkpoint(checkpoint, settings, out)
    console = Console(soft_wrap=True, highlight=False, markup=False)
    console.print(f"{model.upper()}: read from {checkpoint}, SHA-256 {summary['imported']['sha256']}")
    following = command_line("attack", "--run", out, "--data", data, *links_option(follow_links))
    console.print(f"Next: {following}")
