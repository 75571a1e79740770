"""Jobs on this machine: the first runner. Each is a `dvcx exec-action` of its own, in a directory that tells how it is."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from dvcx.errors import DiskRefused, NotFound, UsageError, display
from dvcx.io.files import atomic_write, private_directory
from dvcx.io.processes import belongs
from dvcx.io.runners.local import end_group
from dvcx.io.runners.protocol import CANCELLED, DONE, FAILED, LOST, RUNNING, Job, JobState

MARK = "DVCX_JOB"
PIECE = 1 << 20
# The shell leaves word of the exit code, whoever is there to hear it.
_SCRIPT = 'code=0; "$@" || code=$?; echo $code > "$DVCX_JOB_DIR/code.new"; mv "$DVCX_JOB_DIR/code.new" "$DVCX_JOB_DIR/code"'


class LocalJobs:
    """A `Runner` on this machine. All submitted jobs run at once: who submits decides how many. State is below `directory`."""

    def __init__(self, directory: str, command: Callable[[Job], Sequence[str]], environment: Mapping[str, str]) -> None:
        self._directory, self._command, self._environment = directory, command, environment
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def submit(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        """See `Runner.submit`."""
        return tuple(self._submit(job) for job in jobs)

    def _submit(self, job: Job) -> str:
        name = f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{secrets.token_hex(4)}"
        path = f"{self._directory}/{name}"
        private_directory(self._directory)
        private_directory(path)
        environment = {**self._environment, MARK: name, "DVCX_JOB_DIR": path}
        try:
            with open(f"{path}/log", "wb") as log:
                child = subprocess.Popen(
                    ["/bin/sh", "-c", _SCRIPT, "sh", *self._command(job)],
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            raise DiskRefused(f"{display(path)}: the job cannot be started: {error.strerror}", "check the directory") from None
        self._children[name] = child
        record = {"key": job.key, "remote": job.remote, "pid": child.pid, "began": time.time()}
        atomic_write(f"{path}/job.json", json.dumps(record).encode(), mode=0o600, fsync=False)
        return name

    def poll(self, ids: Sequence[str]) -> tuple[JobState, ...]:
        """See `Runner.poll`."""
        return tuple(self._state(name) for name in ids)

    def _state(self, name: str) -> JobState:
        child = self._children.get(name)
        alive = child is not None and child.poll() is None
        try:
            path = f"{self._path(name)}/job.json"
            with open(path, "rb") as file:
                record = json.loads(file.read(PIECE))
            key, pid, began = str(record["key"]), int(record["pid"]), float(record["began"])
        except (OSError, ValueError, KeyError, TypeError):
            return JobState(name, "", LOST)
        found = self._code(name)
        if found is not None:
            code, moment = found
            cancelled = os.path.exists(f"{self._path(name)}/cancelled")
            return JobState(name, key, DONE if code == 0 else CANCELLED if cancelled else FAILED, code, began, moment)
        if alive or belongs(pid, f"{MARK}={name}"):
            return JobState(name, key, RUNNING, 0, began)
        return JobState(name, key, CANCELLED if os.path.exists(f"{self._path(name)}/cancelled") else LOST, 0, began)

    def _code(self, name: str) -> tuple[int, float] | None:
        try:
            with open(f"{self._path(name)}/code", encoding="ascii") as file:
                return int(file.read(16)), os.fstat(file.fileno()).st_mtime
        except (OSError, ValueError):
            return None

    def cancel(self, ids: Sequence[str]) -> None:
        """See `Runner.cancel`."""
        for name in ids:
            state = self._state(name)
            if state.state != RUNNING:
                continue
            with open(f"{self._path(name)}/cancelled", "wb"):
                pass
            with open(f"{self._path(name)}/job.json", "rb") as file:
                pid = int(json.loads(file.read(PIECE))["pid"])
            # Its dvcx ends the command it runs, which has a process group of its own.
            end_group(pid)
            child = self._children.get(name)
            if child is not None:
                child.wait()

    def logs(self, id: str, start: int = 0) -> Iterator[bytes]:
        """See `Runner.logs`."""
        try:
            with open(f"{self._path(id)}/log", "rb") as file:
                file.seek(start)
                while piece := file.read(PIECE):
                    yield piece
        except FileNotFoundError:
            raise NotFound(f"there is no job '{display(id)}' here", "the ids are those that submit returned") from None

    def _path(self, name: str) -> str:
        if not name.isascii() or not name.replace("-", "").isalnum():
            raise UsageError(f"not the id of a job: '{display(name[:80])}'", "the ids are those that submit returned")
        return f"{self._directory}/{name}"
