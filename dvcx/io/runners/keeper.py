"""The keeper of jobs on this machine: starts what waits when there is room, and leaves when nothing does any more."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from typing import Any, NamedTuple

from dvcx.errors import Busy, DvcxError
from dvcx.io import lock
from dvcx.io.files import atomic_write
from dvcx.io.processes import belongs
from dvcx.io.runners.jobs import MARK, STARTING, Slots, keeper_is_there, keeper_lock, queue_of, read_record
from dvcx.io.runners.local import GRACE

LOOK_EVERY = 0.05
"""Seconds between two looks."""
ASK_EVERY = 1.0
"""Seconds between two looks at jobs that another keeper started: asking the machine for them takes longer."""
KEEP = 7 * 86_400.0
"""Seconds that what is left of a job is kept."""
OUT_OF_TIME = 124

# The shell leaves word of the exit code, whoever is there to hear it.
_SCRIPT = 'code=0; "$@" || code=$?; echo $code > "$DVCX_JOB_DIR/code.new"; mv "$DVCX_JOB_DIR/code.new" "$DVCX_JOB_DIR/code"'


class Child(NamedTuple):
    """A job this keeper started; `deadline` in monotonic seconds, 0 for none."""

    process: subprocess.Popen[bytes]
    needs: Slots
    deadline: float


class Keeper:
    """Keeps the jobs below `directory` that are marked with `mark`; room is shared with all keepers there."""

    def __init__(self, directory: str, mark: str, slots: Slots) -> None:
        self._directory, self._mark, self._slots = directory, mark, slots
        self._children: dict[str, Child] = {}
        self._ended: dict[str, float] = {}
        self._others: tuple[float, list[Slots]] = (0.0, [])

    def keep(self) -> None:
        """Until nothing runs or waits; at once when another keeper is there already."""
        with ExitStack() as held:
            try:
                path = keeper_lock(self._directory, self._mark)
                # Who only looks whether a keeper is there holds this for a moment.
                held.enter_context(lock.hold(path, command="dvcx jobs", timeout=1.0))
            except Busy:
                return
            self._sweep()
            while True:
                self._watch()
                with queue_of(self._directory):
                    left = self._start()
                    if not left and not self._children:
                        # While the queue is held: who lines up a job next finds nobody, and starts another keeper.
                        held.close()
                        return
                time.sleep(LOOK_EVERY)

    def _watch(self) -> None:
        """Leave word of what ended, and end what takes too long."""
        now = time.monotonic()
        for name, child in list(self._children.items()):
            if child.process.poll() is not None:
                self._over(name, child.process.returncode)
            elif child.deadline and now >= child.deadline:
                late = self._ended.setdefault(name, now)
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(child.process.pid, signal.SIGKILL if now >= late + GRACE else signal.SIGTERM)

    def _over(self, name: str, code: int) -> None:
        del self._children[name]
        path = f"{self._directory}/{name}"
        if not os.path.exists(f"{path}/code"):
            # The shell was killed with all the rest.
            code = OUT_OF_TIME if name in self._ended else code if code >= 0 else 128 - code
            with suppress(DvcxError):
                atomic_write(f"{path}/code", f"{code}\n".encode(), mode=0o600, fsync=False)
        with suppress(OSError):
            os.unlink(f"{self._directory}/running/{name}")

    def _start(self) -> int:
        """Start what there is room for, in order; how many of this keeper's wait still. Hold the queue."""
        left = 0
        for name in sorted(os.listdir(f"{self._directory}/waiting")):
            record = read_record(f"{self._directory}/{name}/job.json")
            if record is None:
                os.unlink(f"{self._directory}/waiting/{name}")
                continue
            if left or not self._fits(_needs(record)):
                # Who comes later waits, too: else the large would never have their turn.
                left += record["mark"] == self._mark
                if not left:
                    break
            elif record["mark"] == self._mark:
                self._begin(name, record)
            else:
                # Its own keeper starts it, before any of this one's that came later; not one that nobody keeps.
                waited = time.time() - float(record["submitted"])
                if waited < STARTING or keeper_is_there(self._directory, str(record["mark"])):
                    break
        else:
            return left
        return left or self._waiting()

    def _waiting(self) -> int:
        names = os.listdir(f"{self._directory}/waiting")
        records = [read_record(f"{self._directory}/{name}/job.json") for name in names]
        return sum(1 for record in records if record is not None and record["mark"] == self._mark)

    def _fits(self, needs: Slots) -> bool:
        taken = [*(child.needs for child in self._children.values()), *self._taken_by_others()]
        if not taken:
            return True
        cpu, memory = sum(one.cpu for one in taken), sum(one.memory for one in taken)
        gpu = sum(one.gpu for one in taken)
        return (
            cpu + needs.cpu <= self._slots.cpu + 1e-9
            and gpu + needs.gpu <= self._slots.gpu + 1e-9
            and not (self._slots.memory and memory + needs.memory > self._slots.memory)
        )

    def _taken_by_others(self) -> list[Slots]:
        """What jobs need that run here and that this keeper did not start."""
        looked, found = self._others
        if not looked or time.monotonic() - looked >= ASK_EVERY:
            found = []
            for name in os.listdir(f"{self._directory}/running"):
                path = f"{self._directory}/{name}"
                record, began = read_record(f"{path}/job.json"), read_record(f"{path}/began.json")
                if name in self._children:
                    continue
                if record is not None and began is not None and not os.path.exists(f"{path}/code"):
                    if belongs(int(began["pid"]), f"{MARK}={name}"):
                        found.append(_needs(record))
                        continue
                    fresh = time.time() - float(began["began"]) < ASK_EVERY
                    if fresh:
                        found.append(_needs(record))
                        continue
                with suppress(OSError):
                    os.unlink(f"{self._directory}/running/{name}")
            self._others = (time.monotonic(), found)
        return found

    def _begin(self, name: str, record: dict[str, Any]) -> None:
        path = f"{self._directory}/{name}"
        environment = {**os.environ, MARK: name, "DVCX_JOB_DIR": path}
        began = time.time()
        try:
            with open(f"{path}/log", "wb") as log:
                process = subprocess.Popen(
                    ["/bin/sh", "-c", _SCRIPT, "sh", *map(str, record["command"])],
                    cwd=str(record["cwd"]),
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
        except OSError as error:
            atomic_write(f"{path}/log", f"the job cannot be started: {error}\n".encode(), mode=0o600, fsync=False)
            atomic_write(f"{path}/code", b"126\n", mode=0o600, fsync=False)
        else:
            timeout = float(record["timeout"])
            self._children[name] = Child(process, _needs(record), time.monotonic() + timeout if timeout else 0.0)
            note = json.dumps({"pid": process.pid, "began": began}).encode()
            atomic_write(f"{path}/began.json", note, mode=0o600, fsync=False)
            atomic_write(f"{self._directory}/running/{name}", b"", mode=0o600, fsync=False)
        with suppress(FileNotFoundError):
            os.unlink(f"{self._directory}/waiting/{name}")

    def _sweep(self) -> None:
        """Take away what is left of jobs that were over long ago."""
        until = time.time() - KEEP
        for name in os.listdir(self._directory):
            with suppress(OSError):
                if os.stat(f"{self._directory}/{name}/code").st_mtime < until:
                    shutil.rmtree(f"{self._directory}/{name}")


def _needs(record: dict[str, Any]) -> Slots:
    return Slots(float(record["cpu"]), int(record["memory"]), float(record["gpu"]))


def main(arguments: list[str]) -> None:
    """Keep the jobs of a directory and a mark, with so many cores, bytes and GPUs."""
    directory, mark, cpu, memory, gpu = arguments
    Keeper(directory, mark, Slots(float(cpu), int(memory), float(gpu))).keep()


if __name__ == "__main__":
    main(sys.argv[1:])
