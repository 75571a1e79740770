"""init: make a directory a project."""

from __future__ import annotations

import os
from dataclasses import dataclass

from dvcx.core.objects import ALGORITHMS
from dvcx.errors import Conflict, UnsafeInput, UsageError, disk_refused, display
from dvcx.events import Emit, ignore
from dvcx.io import configfile, files, git

IGNORE = "/config.local.toml\n/cache/\n/state/\n/tmp/\n"
DVCXIGNORE = "# Files that are not part of a tracked directory, in .gitignore syntax.\n"


@dataclass(frozen=True, slots=True)
class Initialized:
    """A new project: its root, the hash its ids use, whether git is used, the files made (relative to the root)."""

    root: str
    hash: str
    git: bool
    files: tuple[str, ...]


def init(root: str, *, hash: str = "xxh128", git: bool = True, emit: Emit = ignore) -> Initialized:
    """Make `root` (absolute, made when missing) a project.

    Raises `Conflict` when it is one already, `UsageError` for an unknown hash or outside of a git repository.
    """
    if hash not in ALGORITHMS:
        raise UsageError(f"unknown hash '{display(hash)}'", f"choose one of: {', '.join(ALGORITHMS)}")
    try:
        os.makedirs(root, exist_ok=True)
    except OSError as error:
        raise disk_refused(error, "making the directory", root) from None
    root = os.path.realpath(root)
    if os.path.lexists(f"{root}/.dvcx/config.toml"):
        raise Conflict(f"{display(root)} is a dvcx project already", "dvcx status")
    repository = _repository(root) if git else None
    if os.path.islink(f"{root}/.dvcx"):
        raise UnsafeInput(f"{display(root)}/.dvcx is a symbolic link", "remove it: a project's own files are not shared")
    made = (".dvcx/.gitignore", ".dvcx/config.toml", ".dvcxignore")
    try:
        os.makedirs(f"{root}/.dvcx", exist_ok=True)
    except OSError as error:
        raise disk_refused(error, "making the directory", f"{root}/.dvcx") from None
    files.atomic_write(f"{root}/{made[0]}", IGNORE.encode())
    if not os.path.lexists(f"{root}/{made[2]}"):
        files.write_record(root, made[2], DVCXIGNORE.encode())
    path = f"{root}/.dvcx/config.toml"
    header = "# Settings of this project, for everybody who works on it. See: dvcx config --help\n"
    files.atomic_write(path, header.encode())
    if hash != "xxh128":
        configfile.edit(path, "core.hash", hash, private=False)
    if repository is not None:
        _stage(repository, made)
    return Initialized(root, hash, repository is not None, made)


def _repository(root: str) -> git.Git:
    found = git.open_git(root)
    if found is None:
        raise UsageError(f"{display(root)} is not in a git repository", "git init first, or: dvcx init --no-git")
    return found


def _stage(repository: git.Git, made: tuple[str, ...]) -> None:
    git.add(repository, made)
