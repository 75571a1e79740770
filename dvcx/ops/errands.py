"""Stages that a runner runs: their requests go out, one question tells how all of them are, and their results come back."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from dvcx.core.objects import Content
from dvcx.core.pipeline.dependencies import externals
from dvcx.core.pipeline.schema import Stage
from dvcx.core.records import LockEntry, lines_of
from dvcx.core.spelling import did_you_mean
from dvcx.core.staleness import Reason, Snapshot, lock_entry
from dvcx.errors import DvcxError, NotFound, RemoteFailed, StageFailed, UsageError, display
from dvcx.events import Emit, StageBegan
from dvcx.io import machine, runs
from dvcx.io.runners.local import STOPPED, Outcome
from dvcx.io.runners.protocol import CANCELLED, DONE, FAILED, LOST, OVER, WAITING, Job, JobState, Runner
from dvcx.io.store.actions import read_action
from dvcx.io.store.store import Store
from dvcx.ops.exec_action import action_words, asked_now, command_line, keep_request
from dvcx.ops.fetch import bring_objects
from dvcx.ops.listening import Listener
from dvcx.ops.running import Stopped, Workshop, check_all_here, put
from dvcx.ops.transfer import needed
from dvcx.project import command_environment

if TYPE_CHECKING:
    from dvcx.project import Project

ASK_EVERY = 0.1
"""Seconds between two questions to the runner, each about all jobs that are under way."""
HEAR_EVERY = 1.0
"""Seconds between two looks at what one job printed."""

AROUND = 3600.0
"""Seconds a job has besides the timeout of its command."""
END = 1 << 13
"""Bytes of the end of what a job printed: why it failed is among them."""


class Errands:
    """What one `repro` has a runner do. Safe to use from several threads. `force` runs actions whose results are known.

    A runner that does not share the cache gets requests and inputs through the default remote, and leaves results there.
    """

    def __init__(self, project: Project, runner: Runner, *, force: bool, emit: Emit) -> None:
        self._project, self._runner, self._force, self._emit = project, runner, force, emit
        self._guard = threading.Lock()
        self._states: dict[str, JobState] = {}
        self._ends: dict[str, bytes] = {}
        self._asked = 0.0
        self._held = ExitStack()
        self._moving = threading.Lock()
        self._remote = "" if runner.shares_cache else project.remote_name()
        self._store: Store | None = None

    def close(self) -> None:
        """Let go of the remote."""
        self._held.close()

    def takes(self, stage: Stage) -> bool:
        """Whether the runner runs a stage: one whose outputs come from its inputs alone. Others run here, in the workspace."""
        alone = not stage.always_changed and not any(out.persist for out in stage.outs)
        return alone and bool(stage.outs) and not any(externals(stage))

    def run(self, shop: Workshop, stage: Stage, now: Snapshot, reasons: Sequence[Reason]) -> tuple[LockEntry, float]:
        """Have a stage run, put its outputs in place and record it; (lock entry, seconds).

        Raises `StageFailed` when its job does not end well; then the workspace and the records are as before.
        """
        check_all_here(stage, now)
        texts = tuple(reason.text for reason in reasons)
        commands = lines_of(stage.cmd)
        shop.emit(StageBegan(stage.address, " && ".join(commands), texts))
        key = self._send(shop, stage, now)
        record = runs.Run(runs.new_name(), stage.address, runs.RUNNING, tuple(commands), texts, 1, pid=os.getpid(), key=key)
        with Listener(shop.project.state_dir, record, shop.emit, alone=not shop.floor.several) as listener:
            state = self._wait(shop, self._submit(stage, key), listener)
            outcome, end = _outcome(state, commands[-1]), self._ends.pop(state.id, b"")
            try:
                if state.state != DONE:
                    raise _failure(stage, state, end)
                entry = lock_entry(stage, now, Snapshot(self._collect(shop, stage, key)))
                if not put(shop, stage, entry.outs, entry):
                    raise StageFailed(f"stage '{display(stage.address)}': its result went away at once", "let dvcx gc end")
            except BaseException as error:
                listener.end(outcome, error)
                raise
            listener.end(outcome)
        return entry, outcome.wall

    def _send(self, shop: Workshop, stage: Stage, now: Snapshot) -> str:
        """Keep the request where the runner finds it, with all it reads; its key."""
        project = shop.project
        asked, store = asked_now(stage, now), self._opened()
        with project.cache_writer_lock(f"dvcx repro ({stage.address})", shop.emit):
            cache = project.cache(shop.emit, write=True)
            try:
                with self._moving if store is not None else ExitStack():
                    return keep_request(project, cache, project, store, asked, shop.emit)
            finally:
                cache.close()

    def _submit(self, stage: Stage, key: str) -> str:
        needs = stage.execution
        # The action keeps to its timeout by itself; fetching what it reads and storing what it writes take their time, too.
        timeout = (needs.retries + 1) * needs.timeout + AROUND if needs.timeout else 0.0
        job = Job(key, self._url(), needs.cpu, needs.mem, needs.gpu, timeout, self._force)
        with self._guard:
            (name,) = self._runner.submit([job])
            self._states[name] = JobState(name, key, WAITING)
        return name

    def _wait(self, shop: Workshop, name: str, listener: Listener) -> JobState:
        """Hear a job until it is over; it is ended when everything is to end."""
        heard, looked = 0, time.monotonic()
        try:
            while (state := self._state(name)).state not in OVER:
                if shop.floor.leash.pulled:
                    self._runner.cancel([name])
                    raise Stopped(f"the job {display(name)} was cancelled", "run dvcx repro again")
                if time.monotonic() - looked >= HEAR_EVERY:
                    heard, looked = self._hear(name, heard, listener), time.monotonic()
                time.sleep(ASK_EVERY / 2)
            self._hear(name, heard, listener)
            listener.finish()
            return state
        finally:
            with self._guard:
                del self._states[name]

    def _state(self, name: str) -> JobState:
        """How a job is. Whoever asks first after a while asks for all."""
        with self._guard:
            if time.monotonic() - self._asked >= ASK_EVERY:
                names = tuple(self._states)
                self._states.update(zip(names, self._runner.poll(names), strict=True))
                self._asked = time.monotonic()
            return self._states[name]

    def _hear(self, name: str, start: int, listener: Listener) -> int:
        with suppress(NotFound):
            for piece in self._runner.logs(name, start):
                listener.hear(piece, False)
                start += len(piece)
                self._ends[name] = (self._ends.get(name, b"") + piece)[-END:]
        return start

    def _collect(self, shop: Workshop, stage: Stage, key: str) -> Mapping[str, Content]:
        """The outputs of an action that ran, in the cache. Nothing of a result is believed."""
        store = self._opened()
        shop.cache.sync(again=True)
        with self._moving if store is not None else ExitStack():
            place = store if store is not None else shop.cache
            place.sync(again=True)
            action = read_action(place.backend, key, place.label)
            if action is None or set(action.outs) != {out.path for out in stage.outs}:
                raise StageFailed(
                    f"stage '{display(stage.address)}': its job ended well and left no result of its outputs in {place.label}",
                    "see what it printed: dvcx log",
                )
            if store is not None:
                with self._project.cache_writer_lock(f"dvcx repro ({stage.address})", shop.emit):
                    found = needed(action.outs, shop.cache, store)
                    bring_objects(self._project, store, shop.cache, found, self._project.jobs, emit=shop.emit)
        return action.outs

    def _opened(self) -> Store | None:
        if not self._remote:
            return None
        with self._guard:
            if self._store is None:
                self._store = self._project.remote(self._remote, self._emit, write=True)
                self._held.callback(self._store.close)
            return self._store

    def _url(self) -> str:
        """The remote as a job names it, which may know nothing of this project."""
        if not self._remote:
            return ""
        url = self._project.config.remote(self._remote)["url"]
        return url if "://" in url else os.path.join(self._project.root, url)


def _outcome(state: JobState, command: str) -> Outcome:
    """How a job went as a run is recorded; who runs it elsewhere measures no more than its time."""
    wall = max(0.0, state.ended - state.began) if state.began and state.ended else 0.0
    return Outcome(state.code, command, STOPPED if state.state == CANCELLED else "", wall, 0.0, 0.0, 0)


def _failure(stage: Stage, state: JobState, end: bytes) -> DvcxError:
    """The error for a job that did not end well, in its own last words where it left some."""
    name = f"stage '{display(stage.address)}'"
    hint = f"dvcx log {display(stage.address)} shows what it printed; its outputs are as they were"
    lines = end.decode("utf-8", "replace").splitlines()
    said = next((line.removeprefix("error: ") for line in reversed(lines) if line.startswith("error: ")), "")
    if state.state == FAILED and said:
        # What is wrong with the remote is told as when a stage runs here.
        kind = RemoteFailed if state.code == RemoteFailed.exit_code else StageFailed
        return kind(f"{name}: {display(said.removeprefix(action_words(state.key)))} (job {display(state.id)})", hint)
    ways = {FAILED: f"exited with {state.code}", CANCELLED: "was cancelled", LOST: "was lost: it left no word of how it ended"}
    return StageFailed(f"{name}: its job {display(state.id)} {ways[state.state]}", hint)


# The runners there are. Another one is a file in io/runners, and a row here.


def _local(project: Project) -> Runner:
    from dvcx.io.runners.jobs import LocalJobs, Slots

    gpu, mem = project.config.values.get("resources.gpu"), project.config.values.get("resources.mem")
    environment = command_environment()
    slots = Slots(
        machine.cores(),
        machine.memory() if mem is None else int(mem) << 20,
        float(machine.gpus(environment)) if gpu is None else float(gpu),
    )
    return LocalJobs(f"{project.state_dir}/jobs", command_line, environment, slots=slots, cwd=project.root)


RUNNERS: dict[str, Callable[[Project], Runner]] = {"local": _local}


def runner_named(project: Project, name: str) -> Runner | None:
    """The runner of a name, "" for the one of the settings; None where stages run in the workspace ("here")."""
    chosen = name or str(project.config.get("core.runner"))
    if chosen == "here":
        return None
    if chosen not in RUNNERS:
        known = ("here", *RUNNERS)
        raise UsageError(
            f"no runner is called '{display(chosen)}'", did_you_mean(chosen, known) or f"there is: {', '.join(known)}"
        )
    return RUNNERS[chosen](project)
