"""Running a stage's commands as local processes: what they print is heard as it comes, and another thread can end them."""

from __future__ import annotations

import contextlib
import os
import resource
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dvcx.errors import DiskRefused, display
from dvcx.io.runners.meter import SELDOM, Meter

if TYPE_CHECKING:
    from dvcx.io.runners.terminal import Terminal

GRACE = 5.0
"""Seconds a command gets to end after it was asked to."""
PIECE = 64 << 10
# What a pipe may still hold when its writer is over, in pieces. More is of a child that it left behind and that goes on.
_REST = (1 << 20) // PIECE
_LOOK_EVERY = 0.5
_LOOK_WITHOUT_PIDFD = 0.02
# Of the peak, in bytes: macOS counts in bytes, others in KiB.
_MEMORY_UNIT = 1 if sys.platform == "darwin" else 1024

Hear = Callable[[bytes, bool], None]
"""Takes what a command printed as it came, and whether that was its stderr."""

TIMEOUT, STOPPED = "timeout", "stopped"
# As the process itself tells it, or a shell of the process it waited for.
_BY_CTRL_C = (-signal.SIGINT, 128 + signal.SIGINT)


class Outcome(NamedTuple):
    """How commands ended. `code` is that of the last one that ran (negative: the signal), `command` is that one.

    `cut` is TIMEOUT or STOPPED when it was ended from here, else "". Seconds of wall time, and of CPU time in user and system
    mode with all children that were waited for; `memory` the peak in bytes of all processes of one command together, as far as
    looking now and then saw it, and at least that of the largest single one.
    """

    code: int
    command: str
    cut: str
    wall: float
    user: float
    system: float
    memory: int

    @property
    def good(self) -> bool:
        """Whether all commands ran to a good end."""
        return self.code == 0 and not self.cut

    @property
    def how(self) -> str:
        """How the command ended, in words."""
        if self.cut == TIMEOUT:
            return "took longer than its timeout"
        if self.cut == STOPPED:
            return "was stopped"
        return f"was killed by {_signal_name(-self.code)}" if self.code < 0 else f"exited with {self.code}"


class Leash:
    """Ends commands that run in other threads, with all they started."""

    def __init__(self) -> None:
        # A signal may come to the thread that holds it.
        self._lock = threading.RLock()
        self._groups: set[int] = set()
        self._pulled = 0.0
        self._paused = 0.0

    @property
    def pulled(self) -> float:
        """When it was pulled (monotonic seconds); 0 while it is not."""
        return self._pulled

    @property
    def paused(self) -> float:
        """Seconds for which everything was suspended so far."""
        return self._paused

    def suspend(self) -> None:
        """Stop every command where it is, until `resume`."""
        with self._lock:
            for group in self._groups:
                _send(group, signal.SIGSTOP)

    def resume(self, seconds: float) -> None:
        """Let them go on, after so many seconds, which do not count for their timeouts."""
        with self._lock:
            self._paused += seconds
            for group in self._groups:
                _send(group, signal.SIGCONT)

    def pull(self) -> None:
        """Ask every command to end now. What does not in `GRACE` seconds is killed; nothing starts any more."""
        with self._lock:
            self._pulled = self._pulled or time.monotonic()
            for group in self._groups:
                _send(group, signal.SIGTERM)

    @contextlib.contextmanager
    def holding(self, start: Callable[[], subprocess.Popen[bytes]]) -> Iterator[subprocess.Popen[bytes] | None]:
        """Start a process and hold it while the block runs; None when the leash was pulled before."""
        with self._lock:
            process = None if self._pulled else start()
            if process is not None:
                self._groups.add(process.pid)
        try:
            yield process
        finally:
            if process is not None:
                self.release(process.pid)

    def release(self, group: int) -> None:
        """A process is about to be waited for: from then on its number may be another's."""
        with self._lock:
            self._groups.discard(group)


def run_commands(
    commands: Sequence[str],
    *,
    directory: str,
    environment: Mapping[str, str],
    hear: Hear | None = None,
    leash: Leash | None = None,
    timeout: float = 0.0,
    started: Callable[[int], None] = lambda pid: None,
    terminal: Terminal | None = None,
) -> Outcome:
    """Run shell commands one after another in `directory`, each in a process group of its own, without input.

    The first that does not exit with 0 ends it, and so does `timeout` (seconds for all of them; 0: none). `started` hears the
    number of each process. With a `terminal` each has that as its input, and one that its Ctrl-C ended counts as STOPPED.
    Raises `DiskRefused` when one cannot be started. When this returns, or raises, they are over.
    """
    leash = leash or Leash()
    began = time.monotonic() - leash.paused
    deadline = began + timeout if timeout else 0.0
    user = system = 0.0
    memory = 0
    code, cut, command = 0, "", ""
    for command in commands:
        code, cut, usage = _run(command, directory, environment, hear, leash, deadline, started, terminal)
        user, system, memory = user + usage[0], system + usage[1], max(memory, usage[2])
        if code or cut:
            break
    return Outcome(code, command, cut, time.monotonic() - leash.paused - began, user, system, memory)


def run_captured(command: str, *, directory: str, environment: Mapping[str, str]) -> tuple[int, str]:
    """Run one shell command in `directory` without input; (exit code, all it printed, stdout and stderr as they came)."""
    try:
        done = subprocess.run(
            ["/bin/sh", "-c", command],
            cwd=directory,
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
    except OSError as error:
        raise DiskRefused(
            f"{display(directory)}: the command cannot be started: {error.strerror}", "check the directory"
        ) from None
    return done.returncode, done.stdout.decode("utf-8", "replace")


def end_group(group: int) -> None:
    """End a process group that nobody waits for: asked first, killed after `GRACE` seconds."""
    _send(group, signal.SIGTERM)
    until = time.monotonic() + GRACE
    while time.monotonic() < until:
        try:
            os.killpg(group, 0)
        except (ProcessLookupError, PermissionError):
            return
        time.sleep(0.02)
    _send(group, signal.SIGKILL)


def _run(
    command: str,
    directory: str,
    environment: Mapping[str, str],
    hear: Hear | None,
    leash: Leash,
    deadline: float,
    started: Callable[[int], None],
    terminal: Terminal | None,
) -> tuple[int, str, tuple[float, float, int]]:
    """(exit code, how it was cut short, (user and system seconds, peak bytes)) of one command."""

    def start() -> subprocess.Popen[bytes]:
        return _start(command, directory, environment, heard=hear is not None, asked=terminal is not None)

    with leash.holding(start) as process:
        if process is None:
            return 0, STOPPED, (0.0, 0.0, 0)
        try:
            started(process.pid)
            if terminal is not None:
                terminal.lend(process.pid)
            meter = Meter(process.pid)
            cut = _listen(process, hear, leash, deadline, meter, terminal)
        except BaseException:
            _send(process.pid, signal.SIGKILL)
            leash.release(process.pid)
            process.wait()
            raise
        finally:
            if terminal is not None:
                terminal.take_back(process.pid)
            for stream in (process.stdout, process.stderr):
                if stream is not None:
                    stream.close()
        leash.release(process.pid)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if terminal is not None and process.returncode in _BY_CTRL_C:
            cut = cut or STOPPED
        if cut:
            _send(process.pid, signal.SIGKILL)  # what it started and left behind
        return process.returncode, cut, (usage.ru_utime, usage.ru_stime, _peak(meter, usage.ru_maxrss))


def _peak(meter: Meter, largest: int) -> int:
    """Bytes, from what was seen of all processes and what the kernel knows of the `largest`."""
    # The kernel counts a new process as large as the one that started it, which is not the command.
    return max(meter.peak, largest * _MEMORY_UNIT) if largest > _own_peak() or not meter.peak else meter.peak


def _own_peak() -> int:
    """How large this program became, as `ru_maxrss` counts. That itself also holds how large its starter was."""
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration), open("/proc/self/status", "rb") as file:
        return next(int(line.split()[1]) for line in file if line.startswith(b"VmHWM:"))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _start(command: str, directory: str, environment: Mapping[str, str], *, heard: bool, asked: bool) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            ["/bin/sh", "-c", command],
            cwd=directory,
            env=environment,
            # In a group of its own a Ctrl-C does not reach it, and it can be ended with all it started.
            process_group=0,
            stdin=None if asked else subprocess.DEVNULL,
            stdout=subprocess.PIPE if heard else None,
            stderr=subprocess.PIPE if heard else None,
            bufsize=0,
        )
    except OSError as error:
        raise DiskRefused(
            f"{display(directory)}: the command cannot be started: {error.strerror}", "check the stage's wdir"
        ) from None


def _listen(
    process: subprocess.Popen[bytes],
    hear: Hear | None,
    leash: Leash,
    deadline: float,
    meter: Meter,
    terminal: Terminal | None,
) -> str:
    """Hear a process until it is over (it is not waited for yet); how it was cut short, "" when it was not.

    A child it leaves behind may hold its pipes open for days: the end is the process's, not the pipes'.
    """
    streams = {stream.fileno(): stream is process.stderr for stream in (process.stdout, process.stderr) if stream is not None}
    poll = select.poll()
    for stream in streams:
        os.set_blocking(stream, False)
        poll.register(stream, select.POLLIN)
    watch = _watch(process.pid)
    if watch >= 0:
        poll.register(watch, select.POLLIN)
    cut, asked = "", 0.0
    try:
        while True:
            due = deadline and deadline + leash.paused
            pauses = _pause(due, asked, pidfd=watch >= 0), meter.pause, terminal.pause if terminal is not None else SELDOM
            found = poll.poll(1000 * min(pauses))
            for number, _ in found:
                if number in streams and _hear(number, streams[number], hear):
                    poll.unregister(number)
            if any(number == watch for number, _ in found) or (watch < 0 and _is_over(process.pid)):
                break
            meter.look()
            if terminal is not None:
                terminal.look(process.pid)
            now = time.monotonic()
            if not cut and (leash.pulled or (deadline and now >= deadline + leash.paused)):
                cut, asked = STOPPED if leash.pulled else TIMEOUT, now
                _send(process.pid, signal.SIGTERM)
            if cut and now >= asked + GRACE:
                _send(process.pid, signal.SIGKILL)
    finally:
        if watch >= 0:
            os.close(watch)
    for number, is_error in streams.items():
        _hear(number, is_error, hear, pieces=_REST)
    return cut or (STOPPED if leash.pulled else "")


def _pause(deadline: float, asked: float, *, pidfd: bool) -> float:
    """Seconds to wait for news at most."""
    pause = _LOOK_EVERY if pidfd else _LOOK_WITHOUT_PIDFD
    for until in (deadline, asked + GRACE if asked else 0.0):
        left = until - time.monotonic()
        if until and left > 0:
            pause = min(pause, left + 0.001)
    return pause


def _hear(number: int, is_error: bool, hear: Hear | None, *, pieces: int = 1) -> bool:
    """Read what is there, so many pieces at most; whether the stream has ended."""
    for _ in range(pieces):
        try:
            data = os.read(number, PIECE)
        except BlockingIOError:
            return False
        except OSError:
            return True
        if not data:
            return True
        if hear is not None:
            hear(data, is_error)
    return False


def _watch(pid: int) -> int:
    """A descriptor that is readable once the process is over; -1 where there is none such (not Linux)."""
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return -1


def _is_over(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None
    return True


def _send(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def _signal_name(number: int) -> str:
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"
