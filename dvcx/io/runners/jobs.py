"""Jobs on this machine: the first runner. Each is a `dvcx exec-action` of its own, in a directory that tells how it is."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from dvcx.errors import Busy, DiskRefused, NotFound, UsageError, display
from dvcx.io import lock
from dvcx.io.files import atomic_write, private_directory
from dvcx.io.hashing import seal
from dvcx.io.processes import belongs
from dvcx.io.runners.local import end_group
from dvcx.io.runners.protocol import CANCELLED, DONE, FAILED, LOST, RUNNING, WAITING, Job, JobState

MARK = "DVCX_JOB"
PIECE = 1 << 20
PATIENCE = 60.0
"""Seconds to wait for others that change the queue, each of which takes a moment."""
STARTING = 10.0
"""Seconds a keeper may take until it is there."""
# What shells set anew for every command.
_OF_SHELLS = frozenset({"_", "SHLVL", "PWD", "OLDPWD"})
# Nobody here waits for it: it is to live longer.
_APART = '"$@" < /dev/null > /dev/null 2>&1 &'


class Slots(NamedTuple):
    """What jobs share on this machine: cores, bytes of memory (0: unknown, and not counted), GPUs."""

    cpu: float
    memory: int = 0
    gpu: float = 0.0


class LocalJobs:
    """A `Runner` on this machine, with as many jobs at a time as `slots` has room for; the others wait in their order.

    State is below `directory`, which several processes may use. A keeper, a process of its own for each `environment`, starts
    what waits when there is room, whoever submitted it may have ended. `command` makes a job's command line, to be run in `cwd`.
    """

    shares_cache = True

    def __init__(
        self,
        directory: str,
        command: Callable[[Job], Sequence[str]],
        environment: Mapping[str, str],
        *,
        slots: Slots,
        cwd: str = "/",
    ) -> None:
        self._directory, self._command, self._environment = directory, command, dict(environment)
        self._slots, self._cwd = slots, cwd
        # Jobs of another environment are for a keeper of its own. The digest tells nobody what is in it.
        self._kept = -STARTING
        told = json.dumps([sorted(item for item in self._environment.items() if item[0] not in _OF_SHELLS), cwd])
        self._mark = seal(told.encode("utf-8", "surrogateescape")).hex()[:16]

    def submit(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        """See `Runner.submit`."""
        for name in ("", "/waiting", "/running"):
            private_directory(f"{self._directory}{name}")
        with queue_of(self._directory):
            under_way = {str(record["key"]): name for name, record in self._under_way()}
            names = []
            for job in jobs:
                known = under_way.get(job.key) if not job.force else None
                names.append(known or self._line_up(job))
            self._keep()
        return tuple(names)

    def _line_up(self, job: Job) -> str:
        name = f"{time.time_ns():020d}-{secrets.token_hex(4)}"
        path = f"{self._directory}/{name}"
        private_directory(path)
        record = {**job._asdict(), "command": list(self._command(job)), "cwd": self._cwd, "mark": self._mark}
        record["submitted"] = time.time()
        atomic_write(f"{path}/job.json", json.dumps(record).encode(), mode=0o600, fsync=False)
        atomic_write(f"{self._directory}/waiting/{name}", b"", mode=0o600, fsync=False)
        return name

    def _under_way(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Jobs that wait or run, whoever submitted them. One that waits for a keeper that is gone is under no way."""
        for place in ("waiting", "running"):
            for name in os.listdir(f"{self._directory}/{place}"):
                path = f"{self._directory}/{name}"
                record = read_record(f"{path}/job.json")
                if record is None or _code(path) is not None or os.path.exists(f"{path}/cancelled"):
                    continue
                mark, began = str(record["mark"]), read_record(f"{path}/began.json")
                soon = mark == self._mark or time.time() - float(record["submitted"]) < STARTING
                kept = soon or keeper_is_there(self._directory, mark)
                if kept or (began is not None and belongs(int(began["pid"]), f"{MARK}={name}")):
                    yield name, record

    def _keep(self) -> None:
        """See to it that somebody starts what waits. To be called while the queue is held: so does a keeper that leaves."""
        if time.monotonic() < self._kept + 2.0 or keeper_is_there(self._directory, self._mark):
            return
        self._kept = time.monotonic()
        arguments = [self._directory, self._mark, *map(str, self._slots)]
        try:
            subprocess.run(
                ["/bin/sh", "-c", _APART, "sh", sys.executable, "-m", "dvcx.io.runners.keeper", *arguments],
                env=self._environment,
                start_new_session=True,
                check=False,
            )
        except OSError as error:
            path = display(self._directory)
            raise DiskRefused(f"{path}: jobs cannot be started: {error.strerror}", "check the directory") from None

    def poll(self, ids: Sequence[str]) -> tuple[JobState, ...]:
        """See `Runner.poll`. It also sees to it that somebody starts what waits, should the keeper have been killed."""
        states = tuple(self._state(name) for name in ids)
        if any(state.state == WAITING for state in states):
            with suppress(Busy), queue_of(self._directory):
                self._keep()
        return states

    def _state(self, name: str) -> JobState:
        path = self._path(name)
        record = read_record(f"{path}/job.json")
        if record is None:
            return JobState(name, "", LOST)
        key, cancelled = str(record["key"]), os.path.exists(f"{path}/cancelled")
        # In this order: what is over was running before, and what runs was waiting.
        waits = os.path.exists(f"{self._directory}/waiting/{name}")
        began = read_record(f"{path}/began.json")
        found = _code(path)
        if found is not None:
            code, moment = found
            since = float(began["began"]) if began is not None else 0.0
            return JobState(name, key, DONE if code == 0 else CANCELLED if cancelled else FAILED, code, since, moment)
        if began is not None:
            since = float(began["began"])
            if belongs(int(began["pid"]), f"{MARK}={name}"):
                return JobState(name, key, RUNNING, 0, since)
            # It may have ended between two looks; its keeper, if there is one, leaves word in a moment.
            found = _code(path)
            if found is not None or keeper_is_there(self._directory, str(record["mark"])):
                return self._state(name) if found is not None else JobState(name, key, RUNNING, 0, since)
            return JobState(name, key, CANCELLED if cancelled else LOST, 0, since)
        if cancelled:
            return JobState(name, key, CANCELLED)
        alone = record["mark"] != self._mark and time.time() - float(record["submitted"]) > STARTING
        if not waits or (alone and not keeper_is_there(self._directory, str(record["mark"]))):
            return JobState(name, key, LOST)
        return JobState(name, key, WAITING)

    def cancel(self, ids: Sequence[str]) -> None:
        """See `Runner.cancel`."""
        with queue_of(self._directory):
            for name in ids:
                if _code(self._path(name)) is None and os.path.isdir(self._path(name)):
                    atomic_write(f"{self._path(name)}/cancelled", b"", mode=0o600, fsync=False)
                    with suppress(FileNotFoundError):
                        os.unlink(f"{self._directory}/waiting/{name}")
        for name in ids:
            began = read_record(f"{self._path(name)}/began.json")
            if began is not None and belongs(int(began["pid"]), f"{MARK}={name}"):
                # Its dvcx ends the command it runs, which has a process group of its own.
                end_group(int(began["pid"]))

    def logs(self, id: str, start: int = 0) -> Iterator[bytes]:
        """See `Runner.logs`."""
        path = self._path(id)
        if not os.path.exists(f"{path}/job.json"):
            raise NotFound(f"there is no job '{display(id)}' here", "the ids are those that submit returned")
        with suppress(FileNotFoundError), open(f"{path}/log", "rb") as file:
            file.seek(start)
            while piece := file.read(PIECE):
                yield piece

    def _path(self, name: str) -> str:
        if not name.isascii() or not name.replace("-", "").isalnum():
            raise UsageError(f"not the id of a job: '{display(name[:80])}'", "the ids are those that submit returned")
        return f"{self._directory}/{name}"


def queue_of(directory: str) -> Any:
    """Hold the queue of a directory of jobs: what waits, what runs, and whether a keeper is there."""
    return lock.hold(f"{directory}/queue.lock", command="dvcx jobs", timeout=PATIENCE)


def keeper_lock(directory: str, mark: str) -> str:
    """The lock that the keeper of an environment's jobs holds while it is there."""
    return f"{directory}/keeper-{mark}.lock"


def keeper_is_there(directory: str, mark: str) -> bool:
    """Whether somebody will start what waits, and leave word of what ends."""
    try:
        with lock.hold(keeper_lock(directory, mark), command="dvcx jobs", timeout=0, shared=True):
            return False
    except Busy:
        return True


def read_record(path: str) -> dict[str, Any] | None:
    """A small JSON file of a job; None when it is not there, or not whole."""
    try:
        with open(path, "rb") as file:
            record = json.loads(file.read(PIECE))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _code(path: str) -> tuple[int, float] | None:
    try:
        with open(f"{path}/code", encoding="ascii") as file:
            return int(file.read(16)), os.fstat(file.fileno()).st_mtime
    except (OSError, ValueError):
        return None
