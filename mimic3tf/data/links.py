"""Links in a benchmark directory: a link that leads out of it is read only if the user allows it.

Data sets are often kept as links into a store (git-annex, DVC, the cache of Hugging Face). But if somebody
else made the directory, a link in it could make this package read any file of the machine.
"""

from __future__ import annotations

import os
from pathlib import Path

from mimic3tf.errors import DataError, private_path


def check_link(path: Path, directory: Path, *, follow_links: bool) -> None:
    """Refuse a link that leads out of a benchmark directory.

    Args:
        path: a file or folder of the directory; it need not be a link.
        directory: the benchmark directory, which may itself be a link.
        follow_links: allow the link.

    Raises:
        DataError: `path` is a link that leads out of the directory.
    """
    if follow_links or not path.is_symlink():
        return
    # `os.path.realpath` raises no error for a link that leads in a circle or to nothing.
    target, root = Path(os.path.realpath(path)), os.path.realpath(directory)
    if not target.is_relative_to(root):
        raise DataError(
            f"{private_path(path)}: is a link that leads out of {directory}; give --follow-links (in Python "
            "follow_links=True) if you trust whoever made it, or copy the files themselves (cp -rL)"
        )
