"""Settings of a victim's layers that the user may change."""

from __future__ import annotations

from typing import NamedTuple

from mimic3tf.errors import UsageError


class Size(NamedTuple):
    """A setting of the layers.

    Attributes:
        usual: the value that it has if none is given; if this is a whole number, all values are.
        lowest: the lowest value.
        highest: the highest value.
    """

    usual: float
    lowest: float
    highest: float

    def check(self, name: str, value: float) -> float:
        """Return the value as a number of the usual one's type.

        Args:
            name: name of the setting, for the message.
            value: its value.

        Raises:
            UsageError: the setting cannot have this value.
        """
        whole = isinstance(self.usual, int)
        if not self.lowest <= value <= self.highest or (whole and value != int(value)):
            wanted = f"a {'whole ' * whole}number from {self.lowest:g} to {self.highest:g}"
            raise UsageError(f"setting 'sizes': '{name}' is {value:g}; give {wanted}")
        return type(self.usual)(value)
