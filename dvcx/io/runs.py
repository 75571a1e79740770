"""Run records: what each attempt of a stage ran, printed and cost, in `.dvcx/state/runs/RUN/`. Only a memory, never shared."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from typing import NamedTuple

from dvcx.core.records import VERSION
from dvcx.errors import DvcxError, NotFound, disk_refused, display
from dvcx.io.files import atomic_write, private_directory

KEPT_RUNS = 2000
KEPT_BYTES = 1 << 30
"""Of all logs together; older runs go first."""
MAX_RECORD = 1 << 20
SHOWN = 64 << 20
"""Bytes of a log that are shown at most: its end."""

RUNNING, RAN, FAILED, STOPPED, LOST = "running", "ran", "failed", "stopped", "lost"


class Facts(NamedTuple):
    """Where a command ran: host, git commit, the program that runs it, its version and a digest of its installed packages.

    Each is "" where nobody knows. No variable of the environment is ever among them.
    """

    host: str = ""
    commit: str = ""
    interpreter: str = ""
    version: str = ""
    packages: str = ""


class Run(NamedTuple):
    """One attempt to run a stage. Times in unix seconds, `wall` and CPU times in seconds, `memory` in bytes.

    `state` is running, ran, failed, stopped (by Ctrl-C) or lost (dvcx itself was killed). `exit_code` is negative for a signal
    and None while nobody knows it. `memory` is the peak of all processes of one command together.
    `kept` is where the outputs of a failed attempt lie.
    """

    run: str
    stage: str
    state: str
    command: tuple[str, ...]
    reasons: tuple[str, ...] = ()
    attempt: int = 1
    began: float = 0.0
    wall: float = 0.0
    user: float = 0.0
    system: float = 0.0
    memory: int = 0
    exit_code: int | None = None
    error: str = ""
    pid: int = 0
    key: str = ""
    kept: str = ""
    facts: Facts = Facts()


def new_name() -> str:
    """The name of a run that begins now: UTC time to the microsecond and four random hex digits, so that names sort by age."""
    now = time.time()
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(now))}.{int(now * 1e6) % 1000000:06d}-{os.urandom(2).hex()}"


def directory(state_dir: str, name: str) -> str:
    """Where the record and the log of a run are."""
    return f"{state_dir}/runs/{name}"


def begin(state_dir: str, run: Run) -> int:
    """Make the record of a run that begins; the descriptor of its log, which the caller closes. Both are for the owner alone."""
    private_directory(f"{state_dir}/runs")
    here = directory(state_dir, run.run)
    private_directory(here)
    write(state_dir, run)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC
    try:
        return os.open(f"{here}/log", flags, 0o600)
    except OSError as error:
        raise disk_refused(error, "making the log of the run", here) from None


def write(state_dir: str, run: Run) -> None:
    """Make a record say this."""
    atomic_write(f"{directory(state_dir, run.run)}/run.json", _encoded(run), mode=0o600, keep_mode=False, fsync=False)


def _encoded(run: Run) -> bytes:
    record = {"dvcx": VERSION, **run._asdict(), "facts": run.facts._asdict()}
    return json.dumps(record, indent=2).encode() + b"\n"


def names(state_dir: str) -> list[str]:
    """The names of all runs, newest first."""
    try:
        return sorted((name for name in os.listdir(f"{state_dir}/runs") if _is_name(name)), reverse=True)
    except OSError:
        return []


def read(state_dir: str, name: str) -> Run | None:
    """The record of a run; None when it is gone or damaged. One that ran when dvcx itself was killed is lost."""
    if not _is_name(name):
        return None
    try:
        with open(f"{directory(state_dir, name)}/run.json", "rb") as file:
            record = json.loads(file.read(MAX_RECORD))
        record.pop("dvcx")
        for key in ("command", "reasons"):
            record[key] = tuple(str(part) for part in record[key])
        record["facts"] = Facts(**{key: str(value) for key, value in record["facts"].items() if key in Facts._fields})
        run = Run(**{key: value for key, value in record.items() if key in Run._fields})._replace(run=name)
        return run._replace(state=LOST) if run.state == RUNNING and not _alive(run.pid) else run
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return None


def log_path(state_dir: str, name: str) -> str:
    """Where the log of a run is."""
    return f"{directory(state_dir, name)}/log"


def read_log(state_dir: str, name: str) -> tuple[bytes, int]:
    """(the last `SHOWN` bytes that the commands of a run printed, stdout and stderr as they came; how many came before them).

    Raises `NotFound`.
    """
    try:
        with open(log_path(state_dir, name), "rb") as file:
            skipped = max(0, os.fstat(file.fileno()).st_size - SHOWN)
            file.seek(skipped)
            return file.read(SHOWN), skipped
    except OSError as error:
        raise NotFound(
            f"the log of run {display(name)} cannot be read ({error.strerror})", "dvcx runs lists the runs that are remembered"
        ) from None


def prune(state_dir: str, *, runs: int = KEPT_RUNS, size: int = KEPT_BYTES) -> None:
    """Forget the oldest runs beyond so many, or whose logs together are larger than `size` bytes."""
    total = 0
    for number, name in enumerate(names(state_dir)):
        here = directory(state_dir, name)
        with contextlib.suppress(OSError):
            total += os.lstat(f"{here}/log").st_size
        if number >= runs or (total > size and number):
            shutil.rmtree(here, ignore_errors=True)


def save(state_dir: str, run: Run) -> None:
    """`write`, but a disk that refuses it fails nothing: what has no room beside the old record is written over it."""
    try:
        write(state_dir, run)
    except DvcxError:
        with contextlib.suppress(OSError), open(f"{directory(state_dir, run.run)}/run.json", "r+b") as file:
            file.write(_encoded(run))
            file.truncate()


def _is_name(name: str) -> bool:
    return len(name) == 27 and name[8] == "T" and name[15] == "." and name[22] == "-" and "/" not in name


def _alive(pid: int) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
