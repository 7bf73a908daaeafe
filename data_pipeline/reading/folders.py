"""Everything below a folder, as relative names: the same on every machine, nothing lost, no loop.

Links to folders are followed, for large data sets are often linked in; each folder is entered once, so that links that
lead back end there, and every file is found under its real name where it has one below the root. Cost: one look at each
folder, none at the files. Memory: all names.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path


def names_below(root: Path) -> Iterator[str]:
    """All that lies below `root` and is not hidden, as relative names; every folder once, links to folders last.

    A folder that cannot be listed, and a link that leads above `root`, are names themselves: the reader says why.
    """
    above = {_identity(parent) for parent in root.resolve().parents}
    seen: set[tuple[int, int]] = set()
    folders, links = [""], deque[str]()
    while folders or links:
        folder = folders.pop() if folders else links.popleft()
        try:
            identity = _identity(root / folder)
            if identity in seen:  # another way to it has been taken
                continue
            seen.add(identity)
            if identity in above:
                raise OSError("it would lead back here")
            with os.scandir(root / folder) as listing:
                entries = sorted((e for e in listing if not e.name.startswith(".")), key=lambda e: e.name)
        except OSError:
            yield folder or "."
            continue
        for entry in entries:
            name = f"{folder}/{entry.name}" if folder else entry.name
            if entry.is_dir(follow_symlinks=False):
                folders.append(name)
            elif entry.is_symlink() and os.path.isdir(entry.path):
                links.append(name)
            else:
                yield name


def _identity(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_dev, status.st_ino
