"""The pool of threads: order, errors, interruption; and that nothing hangs or stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from dvcx.io import pool


@pytest.fixture(autouse=True)
def _nothing_stays_behind() -> Iterator[None]:
    yield
    assert [thread.name for thread in threading.enumerate() if thread.name.startswith("dvcx-")] == []


@pytest.mark.parametrize("workers", [0, 1, 2, 8])
@pytest.mark.parametrize("count", [0, 1, 7, 2000])
def test_results_come_in_order(workers: int, count: int) -> None:
    assert list(pool.run(lambda item: item * 2, range(count), workers=workers)) == [item * 2 for item in range(count)]


@pytest.mark.parametrize("workers", [1, 4])
def test_results_come_as_they_get_ready(workers: int) -> None:
    assert sorted(pool.run(lambda item: item * 2, range(500), workers=workers, ordered=False)) == list(range(0, 1000, 2))
    if workers > 1:
        gate = threading.Event()
        results = pool.run(lambda item: gate.wait(10) if item == 0 else item, [0, 1, 2], workers=3, ordered=False)
        assert {next(results), next(results)} == {1, 2}
        gate.set()
        assert list(results) == [True]


def test_they_run_at_once_and_no_more_than_asked() -> None:
    barrier = threading.Barrier(4)
    running, most, guard = 0, 0, threading.Lock()

    def work(item: int) -> None:
        nonlocal running, most
        with guard:
            running += 1
            most = max(most, running)
        barrier.wait(10)
        with guard:
            running -= 1

    list(pool.run(work, range(8), workers=4))
    assert most == 4


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("ordered", [True, False])
def test_the_first_error_ends_the_run(workers: int, ordered: bool) -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        if item == 5:
            raise LookupError("five")
        return item

    with pytest.raises(LookupError, match="five"):
        list(pool.run(work, range(100_000), workers=workers, ordered=ordered))
    assert len(begun) < 100


def test_an_error_in_the_items_ends_the_run() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("broken")

    with pytest.raises(OSError, match="broken"):
        list(pool.run(lambda item: item, items(), workers=3))


def test_long_work_notices_at_its_checkpoint() -> None:
    ended: list[bool] = []
    started = threading.Event()

    def work(item: int) -> None:
        if item == 1:
            started.wait(10)
            raise LookupError("one")
        started.set()
        try:
            while True:
                pool.checkpoint()
                time.sleep(0.001)
        finally:
            ended.append(True)

    with pytest.raises(LookupError):
        list(pool.run(work, [0, 1], workers=2))
    assert ended == [True]
    pool.checkpoint()  # outside of a run it does nothing


def test_items_are_read_only_a_little_ahead() -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for item in range(10_000):
            read += 1
            yield item

    results = pool.run(lambda item: item, items(), workers=2)
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert read < 200


def test_a_slow_first_one_does_not_pile_up_the_others() -> None:
    gate = threading.Event()
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for item in range(5000):
            read += 1
            yield item

    def work(item: int) -> int:
        if item == 0:
            gate.wait(10)
        return item

    results = pool.run(work, items(), workers=2)
    threading.Timer(0.3, gate.set).start()
    assert next(results) == 0
    assert read <= 64 * 2 + 2
    results.close()  # type: ignore[attr-defined]


def test_ctrl_c_ends_a_run_in_time() -> None:
    program = """
import sys, time
from dvcx.io import pool
def work(item):
    print("up", flush=True)
    while True:
        pool.checkpoint()
        time.sleep(0.01)
try:
    list(pool.run(work, range(100), workers=3))
except KeyboardInterrupt:
    sys.exit(130)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith("up")
    os.kill(process.pid, signal.SIGINT)
    assert process.wait(10) == 130
    process.stdout.close()
