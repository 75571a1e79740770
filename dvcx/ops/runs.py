"""runs: the attempts to run stages that are remembered, newest first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.staleness import MIGHT_RUN, WOULD_RUN, Verdict, recalling
from dvcx.errors import NotFound, display
from dvcx.io import runs as record
from dvcx.io.runs import Run

if TYPE_CHECKING:
    from dvcx.project import Project

LOOKED_AT = 200
"""So many of the newest runs are looked at for how a stage ended."""


@dataclass(frozen=True, slots=True)
class RunInfo:
    """One attempt. `state` is running, ran, failed, stopped or lost; `began` as ISO 8601 UTC, `seconds` of wall time."""

    run: str
    stage: str
    state: str
    began: str
    seconds: float
    attempt: int
    exit_code: int | None
    error: str


@dataclass(frozen=True, slots=True)
class Runs:
    """Remembered attempts, newest first."""

    items: tuple[RunInfo, ...]


def runs(project: Project, stage: str = "", *, limit: int = 20) -> Runs:
    """The newest attempts, of one stage or of all, `limit` at most (0: all). Raises `NotFound` for a stage that has none."""
    found = []
    for run in matching(project, stage):
        found.append(RunInfo(run.run, run.stage, run.state, iso(run.began), run.wall, run.attempt, run.exit_code, run.error))
        if len(found) == limit:
            break
    if stage and not found:
        raise no_runs(stage)
    return Runs(tuple(found))


def matching(project: Project, stage: str = "") -> Iterator[Run]:
    """The records of a stage, by address or by name, or of all, newest first; damaged ones are passed over."""
    for name in record.names(project.state_dir):
        run = record.read(project.state_dir, name)
        if run is not None and (not stage or stage in (run.stage, run.stage.rpartition(":")[2])):
            yield run


def recalled(project: Project, verdicts: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """The verdicts; those on stages that will run have a word about their last run, if it is remembered and did not end well."""
    waiting = {verdict.stage.address for verdict in verdicts if verdict.plan in (WOULD_RUN, MIGHT_RUN)}
    told: dict[str, str] = {}
    for name in record.names(project.state_dir)[:LOOKED_AT] if waiting else ():
        run = record.read(project.state_dir, name)
        if run is not None and run.stage in waiting:
            waiting.discard(run.stage)
            told[run.stage] = _ending(run)
        if not waiting:
            break
    return tuple(recalling(verdict, told[name]) if told.get(name := verdict.stage.address) else verdict for verdict in verdicts)


def _ending(run: Run) -> str:
    """How a run ended that did not end well; "" for others."""
    said = run.error.partition(f"'{display(run.stage)}': ")[2] or run.error
    for command in run.command:
        said = said.removesuffix(f": {display(command)}")
    ways = {
        record.RUNNING: "is not over yet",
        record.FAILED: f"failed: {said}",
        record.STOPPED: "was stopped",
        record.LOST: "was cut off: dvcx was killed",
    }
    return f"its last run, at {iso(run.began)}, {ways[run.state]}; see dvcx log {run.stage}" if run.state in ways else ""


def no_runs(stage: str) -> NotFound:
    """The error for a stage of which no run is remembered."""
    return NotFound(f"no run of stage '{display(stage)}' is remembered here", "dvcx runs lists those that are")


def iso(moment: float) -> str:
    """Unix seconds as ISO 8601 in UTC."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
