"""`mimic3tf evaluate`."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from mimic3tf.cli.checks import check_files, check_out_file
from mimic3tf.cli.options import PREDICTED_TASKS, PredictedTask, Seed, check_predicted
from mimic3tf.errors import DataError, UsageError


class Resampled(StrEnum):
    """What a bootstrap resample is drawn of."""

    STAYS = "stays"
    HOURS = "hours"


def evaluate(
    predictions: Annotated[
        Path, typer.Argument(help="CSV file of predictions, with the columns of the benchmarks.")
    ],
    listfile: Annotated[Path, typer.Option(help="Listfile with the labels of the same stays.")],
    task: PredictedTask = None,
    n_iters: Annotated[
        int | None,
        typer.Option(
            "--n_iters",
            "--n-iters",
            min=1,
            help="Number of bootstrap resamples.  [default: 10,000; 1,000 for tasks with hourly predictions]",
        ),
    ] = None,
    resample: Annotated[
        Resampled,
        typer.Option(
            help="Draw all hours of a stay together, or each hour on its own, as the benchmarks' scripts do: "
            "too narrow intervals, for comparison with theirs."
        ),
    ] = Resampled.STAYS,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file of the result, to write.")] = None,
) -> None:
    """Compute the benchmarks' metrics of predictions.

    They are those of the benchmarks' scripts evaluate_ihm, _decomp, _los and _pheno, and have intervals from
    a bootstrap. The JSON file has the keys of the script. Where a stay has one prediction, and with
    --resample hours, it has the same numbers as the script after numpy.random.seed(SEED).

    \b
    Columns of PREDICTIONS, where those of labels may be absent:
      in-hospital-mortality   stay,prediction,y_true
      decompensation          stay,period_length,prediction,y_true
      length-of-stay          the same; prediction and y_true are remaining hours
      phenotyping             stay,pred_1,pred_2,...,label_1,label_2,...

    Every row of the listfile needs one prediction, and no other stay or hour may have one. Labels must agree
    with the listfile. Of in-hospital-mortality and decompensation, the predictions.csv of 'mimic3tf attack'
    can be evaluated, too.

    \b
    Examples:
      mimic3tf evaluate predictions.csv \\
        --listfile data/synthetic/test_listfile.csv
      mimic3tf evaluate runs/lstm/predictions.csv \\
        --listfile data/synthetic/test_listfile.csv --out ihm_results.json
      mimic3tf evaluate los.csv --listfile los/test_listfile.csv \\
        --task length-of-stay --resample hours
    """
    check_files("PREDICTIONS", [predictions])
    check_files("--listfile", [listfile])
    check_out_file(out)
    task = task or PREDICTED_TASKS[0]
    check_predicted(task)
    from mimic3tf.data.predictions import FORMS, read_predictions, with_labels_of
    from mimic3tf.storage.files import write_whole
    from mimic3tf.tables.evaluation import EVALUATIONS, evaluate_predictions, evaluation_table
    from mimic3tf.tables.fitting import print_table

    if resample is Resampled.HOURS and not FORMS[task].hourly:
        raise UsageError(f"option --resample hours: a stay has one prediction in {task}; leave it out")
    found = with_labels_of(read_predictions(predictions, FORMS[task]), listfile, task)
    assert found.labels is not None
    if task in PREDICTED_TASKS[:2] and (found.labels == found.labels[0]).all():
        raise DataError(f"{listfile}: all stays have label {found.labels[0]}; the metrics need both labels")
    by_stay = resample is Resampled.STAYS
    count = n_iters or EVALUATIONS[task].resamples
    record = evaluate_predictions(found, task, resamples=count, seed=seed, by_stay=by_stay)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_whole(out, json.dumps(record, indent=2) + "\n")
    print_table(evaluation_table(record, found, by_stay=by_stay))
