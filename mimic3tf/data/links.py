"""Links in a benchmark directory: those that lead out of it are read only where somebody vouches for them.

Data sets are often kept as links into a store (git-annex, DVC, the cache of Hugging Face). But in a directory
that somebody else made, a link could show any file of the machine to whoever reads it.
"""

from __future__ import annotations

import os
from pathlib import Path

from mimic3tf.errors import DataError, private_path


def check_link(path: Path, directory: Path, *, follow_links: bool) -> None:
    """Refuse a link that leads out of a benchmark directory.

    Args:
        path: a file or folder of the directory, which may be no link at all.
        directory: the benchmark directory, which may itself be a link.
        follow_links: read the link all the same.

    Raises:
        DataError: it is such a link.
    """
    if follow_links or not path.is_symlink():
        return
    # Neither raises where a link leads in a circle, or to nothing.
    target, root = Path(os.path.realpath(path)), os.path.realpath(directory)
    if not target.is_relative_to(root):
        raise DataError(
            f"{private_path(path)}: is a link that leads out of {directory}; give --follow-links (in Python "
            "follow_links=True) if you trust whoever made it, or copy the files themselves (cp -rL)"
        )
