"""How much memory a command uses with all it started: looked at now and then, by whoever waits for it anyway (Linux)."""

from __future__ import annotations

import contextlib
import os
import time

FIRST, SELDOM = 0.05, 1.0
"""Seconds from the start to the first look, and at most between two; in between the pause doubles."""
SHARE = 0.01
"""Looking takes at most this part of the time."""


class Meter:
    """The largest memory of a process and its descendants that was seen. Memory that several of them share counts once."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self.peak = 0
        """In bytes; 0 before the first look, and where nobody can tell."""
        self._pause = FIRST
        self._due = time.monotonic() + FIRST

    @property
    def pause(self) -> float:
        """Seconds until the next look is due."""
        return max(0.0, self._due - time.monotonic())

    def look(self) -> None:
        """Look, if it is due."""
        if time.monotonic() < self._due:
            return
        began = time.thread_time()  # what others took meanwhile does not count
        family = _family(self._pid)
        # Counting what is shared once takes longer, and never comes to more than counting it for each.
        if sum(map(_resident, family)) > self.peak:
            self.peak = max(self.peak, sum(map(_share, family)) if len(family) > 1 else _resident(self._pid))
        self._pause = min(2 * self._pause, SELDOM)
        self._due = time.monotonic() + max(self._pause, (time.thread_time() - began) / SHARE)


def _family(pid: int) -> list[int]:
    """A process and all that it started and that has not been given up since."""
    found = [pid]
    for parent in found:  # grows meanwhile
        with contextlib.suppress(OSError, ValueError):
            for thread in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{thread}/children", "rb") as file:
                    found += map(int, file.read().split())
    return found


def _resident(pid: int) -> int:
    """Bytes of a process's memory that is in RAM, shared or not."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/statm", "rb") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def _share(pid: int) -> int:
    """The same, with what n processes share counted as its n-th part."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/smaps_rollup", "rb") as file:
        for line in file:
            if line.startswith(b"Pss:"):
                return int(line.split()[1]) << 10
    return _resident(pid)
