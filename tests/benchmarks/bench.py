"""The bench: where things are, how commands are run and timed, and the rows that come of it."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Row:
    """One line of the table: seconds per round of each contender, peak memory in MB, the ratio asked for (0: none)."""

    name: str
    goal: float
    dvc: list[float] = field(default_factory=list)
    dvcx: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    floor_name: str = ""
    memory: float = 0.0


@dataclass
class Fact:
    """A figure that stands for itself: in some unit, at most `goal` (0: none)."""

    name: str
    value: float
    goal: float
    unit: str


class Bench:
    """Where things are and how commands are run."""

    def __init__(self, directory: Path, dvc: str) -> None:
        self.directory = directory
        self.dvc = dvc
        self.rows: dict[str, Row] = {}
        self.facts: list[Fact] = []
        home = directory / "home"
        home.mkdir()
        (home / ".gitconfig").write_text("[user]\n\tname = bench\n\temail = bench@example.invalid\n")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DVC", "GIT_", "PYTHON"))},
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "DVC_NO_ANALYTICS": "1",
        }

    def fact(self, name: str, value: float, goal: float, unit: str) -> None:
        """Write a figure down."""
        self.facts.append(Fact(name, value, goal, unit))

    def row(self, name: str, goal: float, floor: str = "") -> Row:
        return self.rows.setdefault(name, Row(name, goal, floor_name=floor))

    def run(self, where: Path, *command: str) -> tuple[float, float]:
        """(seconds, peak MB) of a command that must succeed."""
        os.sync()
        began = time.perf_counter()
        process = subprocess.Popen(
            command, cwd=where, env=self.environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        told = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        process.stderr.close()
        if process.returncode:
            raise SystemExit(f"{' '.join(command)}: exit {process.returncode}\n{told.decode()}")
        return time.perf_counter() - began, usage.ru_maxrss / 1024

    def ours(self, row: Row, where: Path, *words: str) -> None:
        seconds, memory = self.run(where, sys.executable, "-m", "dvcx", *words)
        row.dvcx.append(seconds)
        row.memory = max(row.memory, memory)

    def theirs(self, row: Row, where: Path, *words: str) -> None:
        if self.dvc:
            row.dvc.append(self.run(where, self.dvc, *words)[0])

    def away(self, path: Path) -> None:
        """Take a directory out of the way without deleting it.

        ext4 makes new files ten times slower while it remembers tens of thousands of inodes deleted in the last minutes;
        that would measure the deletion, and only of the tool that makes files instead of links.
        """
        path.rename(self.directory / f"away-{len(list(self.directory.iterdir()))}")

    def project(self, name: str, links: str = "", *, like: str = "dvcx") -> Path:
        where = self.directory / name
        where.mkdir()
        self.run(where, "git", "init", "-q")
        if like == "dvc":
            self.run(where, self.dvc, "init", "-q")
            for key, value in (("cache.type", "hardlink"), ("core.analytics", "false"), ("core.check_update", "false")):
                self.run(where, self.dvc, "config", key, value)
        else:
            self.run(where, sys.executable, "-m", "dvcx", "init")
            if links:
                self.run(where, sys.executable, "-m", "dvcx", "config", "set", "cache.link", links)
        return where


def make_files(where: Path, count: int) -> None:
    """Different files of 4 KiB in 100 directories."""
    block = os.urandom(4096 * 64)
    chance = random.Random(7)
    for at in range(100):
        directory = where / f"d{at:03d}"
        directory.mkdir(parents=True)
        for number in range(count // 100):
            start = chance.randrange(4096 * 63)
            head = at.to_bytes(4, "little") + number.to_bytes(4, "little")
            (directory / f"f{number:05d}.bin").write_bytes(head + block[start : start + 4088])


def floors(bench: Bench, floors: dict[str, Callable[[], None]]) -> None:
    for name, work in floors.items():
        os.sync()
        began = time.perf_counter()
        work()
        seconds = time.perf_counter() - began
        for row in bench.rows.values():
            if row.floor_name == name:
                row.floor.append(seconds)
