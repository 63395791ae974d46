"""Make a table of outcomes, for `mimic3tf prepare yaib`, of eICU's table of patients.

    python scripts/eicu_outcomes.py patient.csv.gz outcomes.csv

A row for each stay in the ICU: its length, whether the patient died in hospital, and when, in hours since the
admission to the ICU. Stays without a length or a discharge are left out.
"""

from __future__ import annotations

import sys

import polars as pl


def main() -> None:
    """Read the table, and write the outcomes."""
    table = pl.read_csv(sys.argv[1], infer_schema=False)
    hours = pl.col("unitdischargeoffset").cast(pl.Float64) / 60
    died = pl.col("hospitaldischargestatus") == "Expired"
    death = pl.col("hospitaldischargeoffset").cast(pl.Float64) / 60
    outcomes = table.filter(hours > 0, pl.col("hospitaldischargestatus").is_in(["Alive", "Expired"])).select(
        stay_id="patientunitstayid",
        subject="uniquepid",
        died=died.cast(pl.Int64),
        hours=hours.round(4),
        death_hour=pl.when(died).then(death.round(4)),
    )
    outcomes.write_csv(sys.argv[2])


if __name__ == "__main__":
    main()
