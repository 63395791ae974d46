"""A table of outcomes: one row for each stay, which says whether the patient died."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mimic3tf.data.directory import SPLITS
from mimic3tf.errors import DataError, private
from mimic3tf.sources.cleaning import quoted
from mimic3tf.sources.database import Database
from mimic3tf.sources.splits import in_order, split_by_subject
from mimic3tf.sources.table_file import TableFile, id_sql, number_of

SUBJECT = ("subject", "subject_id", "patient_id", "uniquepid")
DIED = ("died", "label", "death", "hospital_expire_flag", "y_true")
"""Names of the columns, the first one first."""
UNKNOWN = "without a known outcome"

SAFE = "[A-Za-z0-9_][A-Za-z0-9._-]{0,99}"
"""Regular expression of an id that is safe in the name of a file."""
SAFE_IN_WORDS = "up to 100 letters (a to z), digits, '.', '_' and '-', and no '.' or '-' first"

_TEXT = "lower(trim(died::VARCHAR))"
LABEL = (
    f"CASE WHEN {_TEXT} IN ('1', '1.0', 'true') THEN 1::BIGINT "
    f"WHEN {_TEXT} IN ('0', '0.0', 'false') THEN 0::BIGINT END"
)
"""SQL of the label in the column `died`; null where the cell is empty."""
_EMPTY = f"(died IS NULL OR {_TEXT} IN ('', 'nan'))"


class Outcomes:
    """A table of outcomes as the view `outcome` of a database."""

    def __init__(self, database: Database, file: TableFile, columns: Mapping[str, str]) -> None:
        """Add the view, and check it.

        Args:
            database: the database.
            file: the table.
            columns: name in the view -> column of the file: `died`, and any of `subject`, `stay_id`,
                `episode`, `split` and `intime`.

        Raises:
            DataError: a cell is none of what its column can hold; names file and row.
        """
        self._database, self._file, self._columns = database, file, columns
        file.add_view(database, "outcome", columns)
        if not database.run("SELECT 1 FROM outcome LIMIT 1"):
            raise DataError(f"{file.path}: holds no stay, only the names of the columns")
        for name in ("subject", "stay_id"):
            if name in columns:
                safe = f"regexp_full_match({id_sql(name)}, '{SAFE}')"
                self.refuse(f"{name} IS NOT NULL AND NOT {safe}", name, f"an id has {SAFE_IN_WORDS}")
                self.refuse(f"{name} IS NULL", name, "every stay needs one")
        if "episode" in columns:
            episode = number_of("episode")
            right = f"({episode} >= 0 AND {episode} <= 1e15 AND {episode} = round({episode}))"
            self.refuse(f"{right} IS NOT TRUE", "episode", "a stay's number is a whole number: 1, 2, ...")
        self.refuse(f"NOT {_EMPTY} AND {LABEL} IS NULL", "died", "expected 1 (died) or 0")
        if "split" in columns:
            names = ", ".join(f"'{split}'" for split in SPLITS)
            self.refuse(
                f"(trim(split::VARCHAR) IN ({names})) IS NOT TRUE", "split", f"expected {', '.join(SPLITS)}"
            )
            if "subject" in columns:
                self.refuse(
                    f"{id_sql('subject')} IN (SELECT {id_sql('subject')} FROM outcome GROUP BY ALL "
                    "HAVING count(DISTINCT trim(split::VARCHAR)) > 1)",
                    "subject",
                    "this patient has stays in several splits: put them into one",
                )

    def refuse(self, condition: str, column: str, expected: str) -> None:
        """Refuse the first row that fulfils a condition.

        Raises:
            DataError: there is such a row; names it, and the cell of a column.
        """
        for place, cells in self._file.first(self._database, "outcome", self._columns, condition):
            cell = cells[column]
            held = "is empty" if cell is None else f"is '{private(str(cell)[:60])}'"
            raise DataError(f"{place}: {self._columns[column]} {held}; {expected}")

    def refuse_repeated(self, key: Mapping[str, str], hint: str) -> None:
        """Refuse two rows of the same stay.

        Args:
            key: column -> SQL of the value by which stays differ.
            hint: what to do about it.

        Raises:
            DataError: there are two such rows; names both.
        """
        values = ", ".join(key.values())
        repeated = f"SELECT {values} FROM outcome GROUP BY ALL HAVING count(*) > 1 ORDER BY ALL LIMIT 1"
        for found in self._database.run(repeated):
            condition = " AND ".join(
                f"({sql})::VARCHAR = {quoted(str(part))}"
                for sql, part in zip(key.values(), found, strict=True)
            )
            rows = self._file.first(self._database, "outcome", self._columns, condition, 2)
            stay = ", ".join(f"{name} {private(part)}" for name, part in zip(key, found, strict=True))
            places = " and ".join([rows[0][0], *(place.rpartition(", ")[2] for place, _ in rows[1:])])
            raise DataError(f"{places}: both are of {stay}; {hint}")

    @property
    def unknown(self) -> int:
        """Number of stays whose outcome is not known."""
        return int(str(self._database.run(f"SELECT count(*) FROM outcome WHERE {_EMPTY}")[0][0]))


def split_of(stays: pl.DataFrame) -> Mapping[str, NDArray[np.int64]]:
    """Assign stays to splits: as their column `split` says, else by a hash of the subject."""
    if "split" in stays.columns:
        return in_order(stays, stays["split"].to_list())
    return split_by_subject(stays)
