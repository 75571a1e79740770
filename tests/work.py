"""Work compared, not timed: CPU time in turns of a fixed loop, which a busy machine makes longer as well."""

from __future__ import annotations

import time
from collections.abc import Callable

SECOND = 25.0
"""So many turns take about a second."""


def turns(work: Callable[[], object]) -> float:
    """The CPU time of `work` in turns: a million steps of a loop. What it raises is raised."""
    before = turn()
    began = time.process_time()
    work()
    spent = time.process_time() - began
    return spent / max(before, turn())


def turn() -> float:
    """The CPU time of one turn now."""
    began = time.process_time()
    count = 0
    for number in range(1_000_000):
        count += number & 1
    return time.process_time() - began
