"""`mimic3tf evaluate`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.checks import check_files, check_out_file
from mimic3tf.cli.options import Seed
from mimic3tf.errors import DataError


def evaluate(
    predictions: Annotated[
        Path, typer.Argument(help="CSV file with the columns stay, prediction and, if you like, y_true.")
    ],
    listfile: Annotated[Path, typer.Option(help="Listfile with the labels of the same stays.")],
    n_iters: Annotated[
        int, typer.Option("--n_iters", "--n-iters", min=1, help="Number of bootstrap resamples.")
    ] = 10_000,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file of the result, to write.")] = None,
) -> None:
    """Evaluate predictions of in-hospital mortality, as the script evaluate_ihm of the benchmarks does.

    The metrics are AUROC, AUPRC and the largest min(precision, sensitivity), with intervals from a bootstrap
    that resamples stays. The JSON file has the keys of the script, and the same numbers as the script has
    after numpy.random.seed(SEED).

    Every stay of the listfile needs one prediction from 0 to 1, and no other stay may have one. If there is
    a column y_true, it must agree with the listfile. The predictions.csv of 'mimic3tf attack' can be
    evaluated, too.

    \b
    Examples:
      mimic3tf evaluate predictions.csv --listfile data/synthetic/test_listfile.csv
      mimic3tf evaluate runs/lstm/predictions.csv --listfile data/synthetic/test_listfile.csv \\
        --out ihm_results.json
    """
    check_files("PREDICTIONS", [predictions])
    check_files("--listfile", [listfile])
    check_out_file(out)
    from mimic3tf.data.predictions import read_predictions, with_labels_of
    from mimic3tf.storage.files import write_whole
    from mimic3tf.tables.evaluation import evaluation_record, evaluation_table
    from mimic3tf.tables.fitting import print_table
    from mimic3tf.tasks.bootstrap import bootstrap
    from mimic3tf.tasks.registry import MORTALITY

    found = with_labels_of(read_predictions(predictions), listfile)
    assert found.labels is not None
    if len(set(found.labels.tolist())) == 1:
        raise DataError(f"{listfile}: all stays have label {found.labels[0]}; the metrics need both labels")
    estimates = bootstrap(found.labels, found.probabilities, resamples=n_iters, seed=seed)
    record = evaluation_record(MORTALITY.name, estimates, n_iters)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, json.dumps(record, indent=2) + "\n")
    print_table(evaluation_table(record, len(found)))
