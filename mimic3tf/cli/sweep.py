"""`mimic3tf sweep`."""

from __future__ import annotations

import os
import shlex
import sys
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal

import typer

from mimic3tf.cli.options import Data
from mimic3tf.cli.startup import start_tensorflow
from mimic3tf.errors import UsageError, UserError
from mimic3tf.storage.folders import claimed
from mimic3tf.storage.notes import command_line


def sweep(
    config: Annotated[
        str,
        typer.Option(
            help="Sweep file, or the name of one that is installed: paper, strengths, count, triggers."
        ),
    ],
    data: Data,
    out: Annotated[Path, typer.Option(help="Folder to make; on a cluster, one that all machines share.")],
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="Processes of this machine, or Ray Tune.")
    ] = "local",
    workers: Annotated[
        int | None, typer.Option(min=1, help="Trials at a time; one a core, or what Ray has resources for.")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option(help="Ray cluster to run on; a Ray of its own on this machine if not given.")
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Run the trials that have not finished; start if there is no sweep."),
    ] = False,
) -> None:
    """Train and attack a whole grid of victims, into one table.

    A trial that fails is tried once more, then recorded with its error while the others go on. Every trial
    is a run directory in OUT/trials.

    \b
    Examples:
      mimic3tf sweep --config paper --data data/synthetic --out sweeps/paper
      mimic3tf sweep --config mine.yaml --data data/physionet --out sweeps/mine --workers 4
      mimic3tf sweep --config mine.yaml --data data/physionet --out sweeps/mine --resume
      mimic3tf sweep --config paper --data /shared/mimic3 --out /shared/paper --engine ray --ray-address auto
    """
    from mimic3tf.cli.sweep_board import SweepBoard
    from mimic3tf.sweeps.folder import check_sweep_folder, open_folder
    from mimic3tf.sweeps.outcomes import write_results
    from mimic3tf.sweeps.plan import read_sweep

    if engine == "local" and ray_address is not None:
        raise UsageError("--ray-address: takes --engine ray")
    if engine == "ray" and find_spec("ray") is None:
        raise UsageError("--engine ray: Ray is not installed; pip install 'mimic3tf[sweep]'")
    file = read_sweep(config)
    command = shlex.join(["mimic3tf", *sys.argv[1:]])
    check_sweep_folder(out, resume=resume)
    with claimed(out):
        folder = open_folder(out, file, data, command=command, resume=resume)
        board = SweepBoard(folder.left, before=len(folder.jobs) - len(folder.left))
        with board:
            if engine == "ray":
                from mimic3tf.sweeps.on_ray import run_on_ray

                resources = file.sweep.resources
                run_on_ray(
                    folder.left,
                    address=ray_address,
                    workers=workers,
                    resources=resources,
                    start=partial(start_tensorflow, resources.cpus),
                    scratch=out.resolve() / "ray",
                    board=board,
                )
            else:
                from mimic3tf.sweeps.local import run_locally

                cores = os.cpu_count() or 1
                at_once = min(workers or cores, len(folder.left))
                run_locally(
                    folder.left,
                    workers=at_once,
                    start=partial(start_tensorflow, max(cores // max(at_once, 1), 1)),
                    log=out / "workers.log",
                    board=board,
                )
        results = write_results(out, [job.folder for job in folder.jobs])
    if board.failed == len(folder.jobs):
        raise UserError(f"every trial failed; the first: {results['error'][0]}")
    if board.failed:
        typer.echo(f"{board.failed} trials failed (column 'error'); --resume tries them again")
    typer.echo(f"{len(folder.jobs)} trials, {len(results)} attacks: {out / 'results.csv'}")
    typer.echo(f"Next: {command_line('report', '--results', out, '--out', out / 'report')}")
