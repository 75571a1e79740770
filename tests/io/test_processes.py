"""Forked helpers: every item once, whoever takes it; errors and killed helpers end all; nothing stays behind."""

from __future__ import annotations

import faulthandler
import fcntl
import os
import signal
import threading
import time

import pytest

from dvcx.errors import DiskRefused, NotFound
from dvcx.io import processes

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")


@pytest.mark.parametrize("count", [0, 1, 2, 7, 500])
@pytest.mark.parametrize("workers", [1, 2, 3])
def test_every_item_once(count: int, workers: int) -> None:
    items = [f"item {number}" for number in range(count)]
    found = sorted(processes.spread(lambda item: item.encode(), items, workers=workers))
    assert found == [(number, item.encode()) for number, item in enumerate(items)]


def test_many_helpers_and_a_pipe_of_one_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """What Linux gives a user who has many pipes already: what does not fit would wait for a reader that is not there yet."""
    real = os.pipe

    def small() -> tuple[int, int]:
        ends = real()
        fcntl.fcntl(ends[1], 1031, 4096)  # F_SETPIPE_SZ
        return ends

    monkeypatch.setattr(os, "pipe", small)
    faulthandler.dump_traceback_later(60, exit=True)
    try:
        found = dict(processes.spread(lambda item: b"%d" % item, list(range(3000)), workers=10))
    finally:
        faulthandler.cancel_dump_traceback_later()
    assert found == {number: b"%d" % number for number in range(3000)}


def test_a_signal_while_helpers_begin_ends_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    real, pids, here = os.fork, [], threading.get_ident()

    def fork() -> int:
        pid = real()
        if pid:
            pids.append(pid)
            # To this thread: pytest-xdist has others, and helpers are only started where there are none.
            signal.pthread_kill(here, signal.SIGINT)
        return pid

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(KeyboardInterrupt):
        list(processes.spread(lambda item: bytes(time.sleep(30) or 0), [1, 2], workers=2))  # type: ignore[func-returns-value]
    assert len(pids) == 2
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_who_is_done_takes_more() -> None:
    def work(item: int) -> bytes:
        if item == 0:
            time.sleep(0.5)
        return str(os.getpid()).encode()

    found = dict(processes.spread(work, list(range(20)), workers=2))
    slow = found[0]
    assert sum(1 for pid in found.values() if pid == slow) < 5


def test_last_is_called_once_in_every_helper() -> None:
    mine: list[int] = []

    def work(item: int) -> bytes:
        mine.append(item)
        time.sleep(0.02)
        return b""

    found = list(processes.spread(work, list(range(10)), workers=2, last=lambda: bytes(mine)))
    ends = [body for number, body in found if number == 10]
    assert len(ends) == 2
    assert sorted(b"".join(ends)) == list(range(10))
    assert not mine


def test_the_first_error_is_raised() -> None:
    def work(item: int) -> bytes:
        if item == 3:
            raise NotFound("item 3 is gone", "look for it")
        return b""

    with pytest.raises(NotFound, match="item 3 is gone"):
        list(processes.spread(work, list(range(100)), workers=2))


def test_a_killed_helper_is_an_error() -> None:
    def work(item: int) -> bytes:
        os.kill(os.getpid(), signal.SIGKILL)
        return b""

    with pytest.raises(DiskRefused, match="ended from outside"):
        list(processes.spread(work, [1, 2], workers=2))


def test_helpers_end_with_who_stops_listening(tmp_path: object) -> None:
    def work(item: int) -> bytes:
        time.sleep(0.01)
        return str(os.getpid()).encode()

    running = processes.spread(work, list(range(10_000)), workers=2)
    pids = {int(next(running)[1]) for _ in range(4)}
    running.close()  # type: ignore[attr-defined]
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
