"""Say in the words of a task whether stays or hours are counted."""

from __future__ import annotations

from mimic3tf.tasks.task import Words


def unit_of(words: Words) -> str:
    """Return what the two groups of a task consist of: "stays" or "hours"."""
    return "hours" if "hour" in words.one[0] else "stays"


def one_stay(words: Words, label: int) -> str:
    """Name a stay that has an example of this label; an hour is only a part of the stay."""
    return words.one[label] if unit_of(words) == "stays" else f"stay with {words.group[label]}"
