"""`mimic3tf prepare`: make a directory in the layout of the benchmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from mimic3tf.cli.checks import check_files, check_folders
from mimic3tf.cli.options import Seed, TaskName, check_task
from mimic3tf.errors import UsageError
from mimic3tf.storage.notes import command_line
from mimic3tf.tasks.registry import MORTALITY, TASKS

app = typer.Typer(
    help="Make a data directory, which the other commands read.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
Out = Annotated[Path, typer.Option(help="Directory to make; it must not contain files yet.")]

MemoryLimit = Annotated[str, typer.Option(help="Memory to use; the rest of the data is kept on disk.")]


@app.command()
def synthetic(
    out: Out,
    task: TaskName = MORTALITY.name,
    stays: Annotated[int, typer.Option(min=20, help="Number of stays.")] = 4000,
    seed: Seed = 0,
) -> None:
    """Make invented stays that look like ICU records.

    Other tasks than in-hospital mortality have whole stays of 6 hours to 20 days. They show that the
    machinery works, and nothing about patients.

    \b
    Examples:
      mimic3tf prepare synthetic --out data/synthetic
      mimic3tf prepare synthetic --out data/phenotyping --task phenotyping
      mimic3tf prepare synthetic --out data/small --stays 500 --seed 1
    """
    from mimic3tf.sources.synthetic import prepare_synthetic
    from mimic3tf.tables.terminal import print_cohort

    print_cohort(prepare_synthetic(out, stays=stays, seed=seed, task=check_task(task)))


@app.command()
def physionet2012(
    records: Annotated[list[Path], typer.Option(help="Folder of record files, such as set-a; repeatable.")],
    outcomes: Annotated[list[Path], typer.Option(help="Outcomes file of this folder; repeatable.")],
    out: Out,
    test_records: Annotated[Path | None, typer.Option(help="Folder that becomes the test split.")] = None,
    test_outcomes: Annotated[Path | None, typer.Option(help="Outcomes file of --test-records.")] = None,
    drop_implausible: Annotated[
        bool, typer.Option("--drop-implausible", help="Leave out values that no living adult has (pH 735).")
    ] = False,
    seed: Seed = 0,
) -> None:
    """Convert the open records of PhysioNet Challenge 2012.

    Their licence is ODC-By. All stays are split 70/15/15 into train, val and test; with --test-records they
    are split 85/15 into train and val.

    \b
    Examples:
      mimic3tf prepare physionet2012 --records set-a --outcomes Outcomes-a.txt \\
        --out data/physionet
      mimic3tf prepare physionet2012 --records set-a --outcomes Outcomes-a.txt \\
        --records set-b --outcomes Outcomes-b.txt --out data/physionet
    """
    from mimic3tf.sources.physionet2012 import prepare_physionet2012
    from mimic3tf.tables.terminal import print_cohort

    if len(records) != len(outcomes):
        raise UsageError(
            f"--records is given {len(records)} times, --outcomes {len(outcomes)} times; give them in pairs"
        )
    if (test_records is None) != (test_outcomes is None):
        raise UsageError("--test-records and --test-outcomes go together; give both or none")
    check_folders("--records", records, "extract the archive of the set first")
    check_files("--outcomes", outcomes)
    check_folders("--test-records", [test_records], "extract the archive of the set first")
    check_files("--test-outcomes", [test_outcomes])
    summary = prepare_physionet2012(
        records,
        outcomes,
        out,
        test_records=test_records,
        test_outcomes=test_outcomes,
        seed=seed,
        drop_implausible=drop_implausible,
    )
    print_cohort(summary)


Units = Annotated[
    list[str],
    typer.Option(
        metavar="CHANNEL=UNIT|FILE",
        help='Unit that the values of a channel are in, "Temperature=degF", or a file of such lines; '
        "repeatable.",
    ),
]


@app.command()
def tables(
    outcomes: Annotated[Path, typer.Option(help="Table of the stays: subject, episode, died, split.")],
    measurements: Annotated[
        Path, typer.Option(help="Table of the values: subject, episode, minute, channel, value, unit.")
    ],
    out: Out,
    units: Units = [],  # noqa: B006
    channels: Annotated[
        Path | None,
        typer.Option(help="Channels of your own, a file channels.yaml.  [default: the benchmarks' 17]"),
    ] = None,
    ignore_unknown: Annotated[
        bool,
        typer.Option(
            "--ignore-unknown", help="Leave out, and count, unknown channels, unknown categories and texts."
        ),
    ] = False,
    memory_limit: MemoryLimit = "4GB",
) -> None:
    """Make a mortality task from two tables of your own.

    The tables are .csv, .csv.gz or .parquet. Outcomes has a row for each stay, measurements a row for each
    value. episode (1, 2, ... of the same subject), split (train, val, test) and unit may be absent. Instead
    of minute, measurements may have hour, or time; then outcomes needs intime. Without a column split, 15% of
    the subjects go to test and 15% to val, by a hash of the subject.

    \b
    Examples:
      mimic3tf prepare tables --outcomes outcomes.csv \\
        --measurements measurements.csv --out data/mine
      mimic3tf prepare tables --outcomes outcomes.csv \\
        --measurements measurements.parquet --out data/mine \\
        --units "Temperature=degF" --units "Weight=lb"
    """
    check_files("--outcomes", [outcomes])
    check_files("--measurements", [measurements])
    check_files("--channels", [channels])
    from mimic3tf.channels import MIMIC3
    from mimic3tf.sources.tables import prepare_tables
    from mimic3tf.tables.terminal import print_cohort

    print_cohort(
        prepare_tables(
            outcomes,
            measurements,
            out,
            channels=channels or MIMIC3,
            units=units,
            ignore_unknown=ignore_unknown,
            memory_limit=memory_limit,
        )
    )


@app.command()
def yaib(
    data: Annotated[Path, typer.Option(help="Folder of dyn.parquet, sta.parquet and outc.parquet.")],
    out: Out,
    outcomes: Annotated[
        Path | None,
        typer.Option(
            help="Labels of your own: a table of stay_id, died, and subject if it is known; for other tasks "
            "also hours and death_hour."
        ),
    ] = None,
    task: Annotated[
        str, typer.Option(help="What is predicted: in-hospital-mortality, decompensation or length-of-stay.")
    ] = MORTALITY.name,
    units: Units = [],  # noqa: B006
    memory_limit: MemoryLimit = "4GB",
) -> None:
    """Make a task from hourly Parquet files of YAIB.

    For in-hospital mortality, stays of 48 hours and more count. The labels of YAIB's own mortality task are
    deaths in the ICU, not in the hospital. Its other tasks label hours: give deaths with --outcomes. No file
    names the patient, so the split is by stay, unless --outcomes has a column subject.

    Decompensation and length of stay read whole stays. In --outcomes, hours is then the length of a stay in
    the ICU, and death_hour when the patient died, in hours since the admission to the ICU.

    \b
    Examples:
      mimic3tf prepare yaib --data mortality24/mimic_demo --out data/yaib
      mimic3tf prepare yaib --data los/eicu_demo --outcomes died.csv \\
        --out data/yaib
      mimic3tf prepare yaib --task decompensation --data los/eicu_demo \\
        --outcomes stays.csv --out data/eicu
    """
    check_folders("--data", [data], "it must hold dyn.parquet")
    check_files("--outcomes", [outcomes])
    from mimic3tf.sources.yaib import prepare_yaib
    from mimic3tf.tables.terminal import print_cohort

    options: Any = {"outcomes": outcomes, "units": units, "memory_limit": memory_limit}
    print_cohort(prepare_yaib(data, out, **options, task=check_task(task)))


TaskOfStays = Annotated[
    str,
    typer.Option(
        "--task",
        help=f"What is predicted: {', '.join(TASKS)}. One directory is made for one task, as in the "
        "benchmarks; run the command once for each task.",
    ),
]


@app.command()
def mimic3(
    csv: Annotated[Path, typer.Option(help="Folder of the raw tables (.csv or .csv.gz).")],
    out: Out,
    task: TaskOfStays = MORTALITY.name,
    test_subjects: Annotated[
        Path | None,
        typer.Option(
            help="Subjects of the test split: the benchmarks' testset.csv, or a file with one subject "
            "on each line."
        ),
    ] = None,
    val_subjects: Annotated[
        Path | None,
        typer.Option(
            help="Subjects of the val split: the benchmarks' valset.csv, or a file with one subject "
            "on each line."
        ),
    ] = None,
    blood_only: Annotated[
        bool,
        typer.Option(
            "--blood-only",
            help="Leave out glucose and pH of urine and other fluids, which the benchmarks keep.",
        ),
    ] = False,
    memory_limit: MemoryLimit = "4GB",
) -> None:
    """Make a task from the raw tables of MIMIC-III v1.4.

    Needs PATIENTS, ADMISSIONS, ICUSTAYS, DIAGNOSES_ICD, D_ICD_DIAGNOSES, CHARTEVENTS and LABEVENTS. The
    rules are those of the MIMIC-III benchmarks; give their testset.csv and valset.csv to get their splits
    too. Without them, 15% of the subjects go to test and 15% to val, by a hash of the subject's id.
    Other tasks than in-hospital mortality read stays of any length to their end; stays.csv then tells length,
    times, age, sex and death of each. prepared.json in the new directory holds the options, and the number of
    stays and values that each rule left out.

    \b
    Examples:
      mimic3tf prepare mimic3 --csv mimic-iii-clinical-database-1.4 \\
        --out data/mimic3
      mimic3tf prepare mimic3 --csv mimic-iii-clinical-database-1.4 \\
        --task phenotyping --out data/phenotyping
      mimic3tf prepare mimic3 --csv mimic-iii-clinical-database-1.4 \\
        --out data/mimic3 --test-subjects testset.csv --val-subjects valset.csv \\
        --memory-limit 8GB
    """
    check_folders("--csv", [csv], "it must hold the raw tables of MIMIC-III v1.4")
    if (csv / "hosp").is_dir() and (csv / "icu").is_dir():
        right = command_line("prepare", "mimic4", "--data", csv, "--out", out)
        raise UsageError(f"--csv {csv}: holds the folders hosp and icu of MIMIC-IV; its command is: {right}")
    check_files("--test-subjects", [test_subjects])
    check_files("--val-subjects", [val_subjects])
    from mimic3tf.sources.mimic3 import prepare_mimic3
    from mimic3tf.tables.terminal import print_cohort

    print_cohort(
        prepare_mimic3(
            csv,
            out,
            test_subjects=test_subjects,
            val_subjects=val_subjects,
            blood_only=blood_only,
            memory_limit=memory_limit,
            task=check_task(task),
        )
    )


@app.command()
def mimic4(
    data: Annotated[Path, typer.Option(help="Folder of MIMIC-IV, with the folders hosp and icu.")],
    out: Out,
    task: TaskOfStays = MORTALITY.name,
    all_stays: Annotated[
        bool,
        typer.Option(
            "--all-stays", help="Keep stays that change the unit, and several stays of an admission."
        ),
    ] = False,
    memory_limit: MemoryLimit = "4GB",
) -> None:
    """Make a task from the raw tables of MIMIC-IV v2.2, v3.1.

    Needs patients, admissions, icustays, chartevents and labevents (.csv or .csv.gz), and diagnoses_icd for
    phenotyping and multitask. The stays are chosen by
    the rules of the MIMIC-III benchmarks as far as MIMIC-IV can tell them: adults, one ICU stay in the
    admission, no change of the unit; for in-hospital mortality, 48 hours or more. A hash of the subject's id
    decides the split. The benchmarks know ICD-9 only; phenotypes of stays coded in ICD-10 are comparable to
    theirs by name, not in frequency.

    \b
    Examples:
      mimic3tf prepare mimic4 --data mimic-iv-3.1 --out data/mimic4
      mimic3tf prepare mimic4 --data mimic-iv-3.1 --task decompensation \\
        --out data/decompensation
      mimic3tf prepare mimic4 --data mimic-iv-3.1 --out data/mimic4-all \\
        --all-stays --memory-limit 8GB
    """
    check_folders("--data", [data], "it must hold the folders hosp and icu of MIMIC-IV")
    # MIMIC-IV spells the names of its files in small letters.
    if any((data / f"ICUSTAYS.csv{end}").exists() for end in ("", ".gz")):
        right = command_line("prepare", "mimic3", "--csv", data, "--out", out)
        raise UsageError(f"--data {data}: holds ICUSTAYS, a table of MIMIC-III; its command is: {right}")
    from mimic3tf.sources.mimic4 import prepare_mimic4
    from mimic3tf.tables.terminal import print_cohort

    summary = prepare_mimic4(data, out, all_stays=all_stays, memory_limit=memory_limit, task=check_task(task))
    print_cohort(summary)


@app.command()
def meds(
    data: Annotated[Path, typer.Option(help="Folder of a MEDS data set, with data/ and metadata/ in it.")],
    out: Annotated[
        Path | None, typer.Option(help="Directory to make; it must not contain files yet.")
    ] = None,
    task: TaskOfStays = MORTALITY.name,
    mapping: Annotated[
        str | None,
        typer.Option(
            help="What the codes mean: mimic4, eicu, or a YAML file. By default, the codes tell which.",
            metavar="NAME|FILE",
        ),
    ] = None,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Make no directory; show what becomes of the codes, and which codes have no channel.",
        ),
    ] = False,
    all_stays: Annotated[
        bool,
        typer.Option(
            "--all-stays", help="Keep stays that change the unit, and several stays of one admission."
        ),
    ] = False,
    memory_limit: MemoryLimit = "4GB",
) -> None:
    """Make a task from a MEDS data set (0.3.3 to 0.4).

    Mappings of MIMIC-IV (MIMIC_IV_MEDS) and eICU (eICU_MEDS) come with the package. For other data sets,
    --explain lists the codes and prints a mapping to begin with. metadata/subject_splits.parquet decides the
    splits if it is there (tuning becomes val, held_out test); else 15% of the subjects go to test and 15% to
    val, by a hash of the subject's id.

    \b
    Examples:
      mimic3tf prepare meds --data mimic-iv-demo-meds --explain
      mimic3tf prepare meds --data mimic-iv-demo-meds --out data/mimic4
      mimic3tf prepare meds --data mimic-iv-demo-meds --task length-of-stay \\
        --out data/length-of-stay
      mimic3tf prepare meds --data my-meds --mapping my-codes.yaml --out data/mine
    """
    check_folders("--data", [data], "it must hold a MEDS data set")
    if (out is None) != explain:
        raise UsageError("give --out DIR to make a directory, or --explain to look at the codes; not both")
    if explain and (all_stays or task != MORTALITY.name):
        raise UsageError("--explain shows the codes of all events; leave out --task and --all-stays")
    if out is None:
        from mimic3tf.sources.meds_explain import explain_meds
        from mimic3tf.tables.meds import print_explanation

        print_explanation(explain_meds(data, mapping=mapping, memory_limit=memory_limit))
        return
    from mimic3tf.sources.meds import prepare_meds
    from mimic3tf.tables.terminal import print_cohort

    summary = prepare_meds(
        data, out, mapping=mapping, all_stays=all_stays, memory_limit=memory_limit, task=check_task(task)
    )
    print_cohort(summary)
