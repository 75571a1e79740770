"""Locks between real processes: waiting, naming the holder, killed holders, file systems without locks."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from dvcx.errors import Busy, UnsafeInput
from dvcx.io import lock

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys, time
from dvcx.io import lock
path, shared, seconds = sys.argv[1], sys.argv[2] == "shared", float(sys.argv[3])
with lock.hold(path, command="dvcx add big.csv", timeout=60, shared=shared):
    print("held", flush=True)
    time.sleep(seconds)
"""


@contextmanager
def holder(path: Path, *, kind: str = "alone", seconds: float = 60) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path), kind, str(seconds)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "lock"


def take(path: Path, *, timeout: float = 0, shared: bool = False) -> None:
    with lock.hold(str(path), command="dvcx status", timeout=timeout, shared=shared):
        pass


def test_the_directory_is_private_and_the_note_names_us(path: Path) -> None:
    with lock.hold(str(path), command="dvcx add\nx", timeout=0):
        assert path.parent.stat().st_mode & 0o777 == 0o700
        note = path.read_text()
        assert f"pid {os.getpid()}\n" in note and "command dvcx add x\n" in note
        assert f"pid {os.getpid()} on {os.uname().nodename}, running 'dvcx add x' for 0 s" in lock.holder(str(path))
    assert lock.holder(str(path)) == "another dvcx"
    take(path)


def test_no_wait_is_busy_at_once_and_names_the_holder(path: Path) -> None:
    with holder(path) as process:
        started = time.monotonic()
        with pytest.raises(Busy) as caught:
            take(path)
        assert time.monotonic() - started < 30
    message = caught.value.message
    assert caught.value.exit_code == 7 and f"pid {process.pid}" in message and os.uname().nodename in message
    assert "dvcx add big.csv" in message and "UTC" in message and caught.value.hint


def test_a_waiter_is_told_once_and_then_gets_it(path: Path) -> None:
    told: list[str] = []
    with holder(path, seconds=1.2) as process:
        with lock.hold(str(path), command="x", timeout=30, waiting=told.append):
            pass
        assert process.wait() == 0
    (message,) = told
    assert f"pid {process.pid}" in message and "30 s" in message


def test_a_short_wait_tells_nothing(path: Path) -> None:
    told: list[str] = []
    with holder(path, seconds=0.1), lock.hold(str(path), command="x", timeout=30, waiting=told.append):
        pass
    assert told == []


def test_the_wait_ends_in_busy(path: Path) -> None:
    with holder(path):
        started = time.monotonic()
        with pytest.raises(Busy, match="after waiting"):
            take(path, timeout=1)
        assert 0.9 < time.monotonic() - started < 30


def test_a_killed_holder_blocks_nobody(path: Path) -> None:
    with holder(path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert f"pid {process.pid}" in path.read_text()
        assert lock.holder(str(path)) == "another dvcx"
        take(path)


def test_a_holder_killed_while_somebody_waits(path: Path) -> None:
    with holder(path) as process:
        threading.Timer(0.3, process.kill).start()
        take(path, timeout=10)


def test_a_command_started_by_the_holder_does_not_keep_the_lock(path: Path) -> None:
    with lock.hold(str(path), command="dvcx repro", timeout=0):
        child = subprocess.Popen(["sleep", "30"], close_fds=False)
    try:
        take(path)
    finally:
        child.kill()
        child.wait()


def test_shared_holders_share_and_exclude_the_others(path: Path) -> None:
    with holder(path, kind="shared"), holder(path, kind="shared"):
        take(path, shared=True)
        with pytest.raises(Busy):
            take(path)
    with holder(path), pytest.raises(Busy):
        take(path, shared=True)


def test_sixteen_at_once_all_get_it(path: Path) -> None:
    code = HOLDER.replace('print("held", flush=True)', "pass")
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), "alone", "0.01"], cwd=ROOT) for _ in range(16)]
    assert [process.wait(60) for process in processes] == [0] * 16


def test_holding_it_twice_in_a_thread_is_a_bug(path: Path) -> None:
    with lock.hold(str(path), command="x", timeout=5), pytest.raises(RuntimeError, match="held"):
        take(path, timeout=5)
    take(path)


def test_a_thread_may_hold_it_shared_once_more(path: Path) -> None:
    for shared in (True, False):
        with lock.hold(str(path), command="x", timeout=5, shared=shared):
            assert lock.is_held(str(path))
            with lock.hold(str(path), command="y", timeout=0, shared=True):
                assert lock.is_held(str(path))
            assert lock.is_held(str(path)), "the inner one let go of nothing"
            with pytest.raises(RuntimeError, match="held"):
                take(path)
        assert not lock.is_held(str(path))


def test_the_mode_of_a_lock_that_users_share(path: Path) -> None:
    before = os.umask(0o077)
    try:
        with lock.hold(str(path), command="x", timeout=0, mode=0o664):
            assert path.stat().st_mode & 0o777 == 0o664
    finally:
        os.umask(before)


def test_another_thread_waits(path: Path) -> None:
    order: list[str] = []

    def second() -> None:
        take(path, timeout=10)
        order.append("second")

    with lock.hold(str(path), command="x", timeout=0):
        thread = threading.Thread(target=second)
        thread.start()
        time.sleep(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_an_error_in_the_block_releases(path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), lock.hold(str(path), command="x", timeout=0):
        raise KeyboardInterrupt
    take(path)


def test_a_removed_lock_file_guards_nothing_and_is_made_again(path: Path) -> None:
    with holder(path, seconds=0.5):
        taken = threading.Thread(target=take, args=(path,), kwargs={"timeout": 10})
        taken.start()
        time.sleep(0.1)
        path.unlink()
        with lock.hold(str(path), command="x", timeout=0):
            assert path.exists()
        taken.join()


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_busy_with_a_hint_never_unlocked(
    path: Path, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int, operation: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(Busy, match="no locks") as caught:
        take(path)
    assert "mount" in caught.value.hint


def test_a_planted_link_or_fifo_is_refused(path: Path, tmp_path: Path) -> None:
    path.parent.mkdir()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    path.symlink_to(victim)
    with pytest.raises(UnsafeInput, match="link"):
        take(path)
    assert victim.read_text() == "precious"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnsafeInput, match="regular"):
        take(path)


NOTES = ["", "garbage", "pid x\nsince y\n", "pid 1\nsince 1e400\n", "pid 1\nsince nan\n", f"pid {10**30}\nsince 0\n"]


@pytest.mark.parametrize("note", NOTES)
def test_a_broken_note_is_no_problem(path: Path, note: str) -> None:
    path.parent.mkdir()
    path.write_text(note)
    assert lock.holder(str(path))
    with lock.hold(str(path), command="x", timeout=0):
        pass


def test_a_hostile_note_is_escaped(path: Path) -> None:
    path.parent.mkdir()
    path.write_text(f"pid {os.getpid()}\nhost h\x1b[31m\nsince {time.time() - 200}\ncommand \x1b]0;x\n")
    assert lock.holder(str(path)).isprintable() and "3 min" in lock.holder(str(path))
