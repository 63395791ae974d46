"""`mimic3tf sweep`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.options import Data, FollowLinks, links_option
from mimic3tf.errors import UsageError
from mimic3tf.startup import start_tensorflow
from mimic3tf.storage.notes import command_line
from mimic3tf.sweeps.plan import Engine, installed_sweeps, read_sweep
from mimic3tf.tasks.registry import TASKS


def sweep(
    config: Annotated[
        str,
        typer.Option(help=f"Sweep file, or the name of an installed sweep: {', '.join(installed_sweeps())}."),
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder to make; on a cluster, all machines must share it.")],
    engine: Annotated[
        Engine,
        typer.Option(
            help="local: processes of this machine; stacked: the same, and small victims are trained "
            "together; ray: Ray Tune."
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Trials at a time; one for each core, or what Ray has resources for."),
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Address of a Ray cluster; a new Ray on this machine if not given.")
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(help=f"What is predicted: {', '.join(TASKS)}.  [default: the sweep file's]"),
    ] = None,
    goal_label: Annotated[
        str | None,
        typer.Option(help="Which of the task's labels is attacked.  [default: the sweep file's]"),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Run the trials that have not finished; start a sweep if none exists."),
    ] = False,
    follow_links: FollowLinks = False,
) -> None:
    """Train and attack a whole grid of victims.

    The results are collected in one table. A trial that fails is run once more. If it fails again, its error
    is recorded and the other trials continue. Every trial is a run directory in OUT/trials.

    \b
    Examples:
      mimic3tf sweep --config paper --data data/synthetic --out sweeps/paper
      mimic3tf sweep --config paper --data data/synthetic --out sweeps/paper \\
        --engine stacked
      mimic3tf sweep --config mine.yaml --data data/physionet --out sweeps/mine \\
        --workers 4
      mimic3tf sweep --config mine.yaml --data data/physionet --out sweeps/mine \\
        --resume
      mimic3tf sweep --config tasks --task decompensation \\
        --data data/decompensation --out sweeps/alarms
      mimic3tf sweep --config paper --data /shared/mimic3 --out /shared/paper \\
        --engine ray --ray-address auto

    --engine stacked trains up to 16 victims of one kind (on a GPU 64) together, each with the results that it
    has alone, up to rounding. Other victims run alone. A stack that is interrupted begins anew with --resume;
    its trials that have ended are kept.

    --task and --goal-label take the place of 'task' and 'goal_label' in the sweep file, so that one file
    serves several tasks, as 'tasks' does.

    Victims are trained with their tuned settings, unless 'configs' names other settings: a file for
    'train --config' beside the sweep file, or installed settings, such as those of the original.

    \b
    A sweep file:
      seeds: [0, 1, 2]
      grids:
        - victims: [lr, mlp, lstm]
          poison_imputed: [notimputed, all]
          proportions: [0, 0.05]
          strengths: [2.0]
      configs: {lr: original/lr, mlp: original/mlp, lstm: original/lstm}
    """
    if engine != "ray" and ray_address is not None:
        raise UsageError("--ray-address: needs --engine ray")
    if engine == "ray" and find_spec("ray") is None:
        raise UsageError("--engine ray: Ray is not installed; pip install 'mimic3tf[sweep]'")
    file = read_sweep(config, {"task": task, "goal_label": goal_label})
    from mimic3tf.sweeps.run import run_sweep

    outcome = run_sweep(
        file,
        data,
        out,
        start=start_tensorflow,
        command=command_line(*sys.argv[1:]),
        engine=engine,
        workers=workers,
        ray_address=ray_address,
        resume=resume,
        follow_links=follow_links,
    )
    if outcome.failed:
        typer.echo(f"{outcome.failed} trials failed (column 'error'); --resume runs them again")
    typer.echo(f"{outcome.trials} trials, {len(outcome.results)} attacks: {out / 'results.csv'}")
    following = command_line("report", "--results", out, "--out", out / "report", *links_option(follow_links))
    typer.echo(f"Next: {following}")
