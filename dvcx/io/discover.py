"""Finding pointers, dvcx.yaml and dvcx.lock in a project without git, by walking what is no data."""

from __future__ import annotations

import os

from dvcx.core.records import POINTER_SUFFIX, is_record
from dvcx.errors import disk_refused


def find_records(root: str) -> list[str]:
    """Paths below `root`, relative to it, of all pointers, dvcx.yaml and dvcx.lock; sorted.

    Does not enter .git, .dvcx, links, directories that a pointer beside them tracks, nor other projects and repositories.
    """
    found: list[str] = []
    todo = [""]
    while todo:
        base = todo.pop()
        try:
            with os.scandir(os.path.join(root, base)) as entries:
                here = list(entries)
        except FileNotFoundError:
            if not base:
                raise
            continue
        except OSError as error:
            raise disk_refused(error, "looking for pointers", base or root) from None
        names = {entry.name for entry in here}
        if base and (".git" in names or ".dvcx" in names):
            continue
        for entry in here:
            path = f"{base}/{entry.name}" if base else entry.name
            if entry.is_dir(follow_symlinks=False):
                if entry.name not in (".git", ".dvcx") and entry.name + POINTER_SUFFIX not in names:
                    todo.append(path)
            elif is_record(path) and (entry.is_file(follow_symlinks=False) or entry.is_symlink()):
                found.append(path)
    return sorted(found)
