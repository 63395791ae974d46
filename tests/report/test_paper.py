"""The paper's numbers stand beside ours at the same setting."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from mimic3tf.report.paper import beside_the_paper


def test_difference_is_ours_minus_the_papers(invented: Any) -> None:
    rows = [
        invented.trial("lstm", mode, proportion, 2.0, seed, attack_success_rate=rate + 0.02 * seed)
        for (mode, proportion), rate in {
            ("all", 0.05): 0.94,
            ("notimputed", 0.05): 0.80,
            ("all", 0.01): 0.50,
            ("notimputed", 0.01): 0.40,
        }.items()
        for seed in (0, 1)
    ]
    table = beside_the_paper(pl.DataFrame(rows)).filter(pl.col("measure") == "attack success rate")
    found = {
        (row["poisoning_proportion"], row["poison_imputed"], row["paper_mode"]): (
            row["paper"],
            round(row["ours"], 6),
            round(row["difference"], 6),
        )
        for row in table.iter_rows(named=True)
    }
    assert found == {
        (0.05, "notimputed", "notimputed"): (0.97, 0.81, -0.16),
        (0.05, "all", "all"): (0.99, 0.95, -0.04),
        (0.01, "all", "not stated"): (0.82, 0.51, -0.31),
        (0.01, "notimputed", "not stated"): (0.82, 0.41, -0.41),
    }


def test_a_clean_victim_has_no_mode(invented: Any) -> None:
    rows = [invented.trial("lr", mode, 0.0, 2.0, clean_auroc=0.78) for mode in invented.modes]
    rows += [invented.trial("lr", "all", 0.03, 2.0)]
    (row,) = beside_the_paper(pl.DataFrame(rows)).iter_rows(named=True)
    assert (row["measure"], row["poison_imputed"], row["paper"]) == ("AUROC", "-", 0.72)
    assert (row["seeds"], row["difference"]) == (1, pytest.approx(0.06))


def test_settings_that_the_paper_does_not_report_are_left_out(invented: Any) -> None:
    rows = [invented.trial(strength=1.0), invented.trial(proportion=0.04), invented.trial(stays=1000)]
    assert beside_the_paper(pl.DataFrame(rows)).is_empty()
