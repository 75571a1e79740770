"""Sweeps of kill -9: strace ends the program just before its n-th call that changes something, at every n that matters."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple

from tests.faults.world import Outcome, World

CHANGING = (
    "rename,renameat,renameat2,unlink,unlinkat,link,linkat,symlink,symlinkat,mkdir,mkdirat,rmdir,"
    "fsync,fdatasync,syncfs,write,pwrite64,writev,ftruncate,chmod,fchmod,fchmodat,openat"
)
# Of these the arguments must show that the project is meant: the interpreter makes them for its own ends too.
_NOISY = {"write", "pwrite64", "writev", "openat"}
_CALL = re.compile(r"^(\d+)\s+(\w+)\((.*)$")


class Point(NamedTuple):
    """Just before the `number`-th `call` of a thread."""

    call: str
    number: int


@functools.cache
def available() -> str:
    """Why strace cannot be used here, "" when it can."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(
        ["strace", "-f", "-o", "/dev/null", "-e", "inject=getppid:signal=KILL:when=1", "true"], capture_output=True, check=False
    )
    return "" if done.returncode == 0 else "strace may not trace here"


def points(world: World, *words: str, within: Path | None = None) -> list[Point]:
    """Every call of `dvcx WORDS` that changes something in the project, or `within` a directory, from one run to its end."""
    place = str(within or world.root)
    with tempfile.NamedTemporaryFile("r", errors="replace") as log:
        outcome = world.run(*words, prefix=("strace", "-f", "-y", "-s", "0", "-o", log.name, "-e", f"trace={CHANGING}"))
        assert outcome.code == 0, outcome.text
        lines = log.read().splitlines()
    counts: dict[tuple[str, str], int] = {}
    found: dict[Point, None] = {}
    for line in lines:
        match = _CALL.match(line)
        if match is None:
            continue
        thread, call, arguments = match.groups()
        number = counts[thread, call] = counts.get((thread, call), 0) + 1
        if call in _NOISY and place not in arguments:
            continue
        if "/.git/" in arguments:
            continue
        if call == "openat" and "O_CREAT" not in arguments:
            continue
        found[Point(call, number)] = None
    return list(found)


def sample(found: list[Point], count: int) -> list[Point]:
    """`count` points spread over a run, its last ones among them."""
    if len(found) <= count:
        return found
    step = (len(found) - 1) / (count - 1)
    return [found[round(number * step)] for number in range(count)]


def kill_at(world: World, point: Point, *words: str) -> Outcome:
    """Run `dvcx WORDS` and kill it at `point`; it may also end by itself, where a run takes another turn.

    A git that dvcx started may be the one that is hit: then dvcx must say so, and git's own lock file is in the way afterwards.
    """
    inject = f"inject={point.call}:signal=KILL:when={point.number}"
    outcome = world.run(*words, prefix=("strace", "-f", "-o", "/dev/null", "-e", f"trace={point.call}", "-e", inject))
    assert outcome.code in (0, -9, 137) or "git" in outcome.err, outcome.text
    (world.root / ".git/index.lock").unlink(missing_ok=True)
    return outcome


def fresh(base: Path, point: Point) -> Path:
    """A directory of its own for one point of a sweep."""
    path = base / f"{point.call}-{point.number}"
    path.mkdir()
    return path
