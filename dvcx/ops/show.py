"""show: everything that is remembered of one attempt to run a stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.errors import NotFound, UsageError, display
from dvcx.io import runs as record
from dvcx.ops.runs import iso, matching

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class RunDetails:
    """One attempt in full. Times in seconds, `memory` in bytes: of all processes at the peak; `exit_code` negative: a signal.

    `key` is the action's, `commit` what was checked out, `interpreter` the program that ran the command with its `version` and a
    digest of its installed `packages`; `kept` is where outputs of a failed attempt lie, `log` what it printed.
    """

    run: str
    stage: str
    state: str
    command: tuple[str, ...]
    reasons: tuple[str, ...]
    attempt: int
    began: str
    seconds: float
    user_seconds: float
    system_seconds: float
    memory: int
    exit_code: int | None
    error: str
    host: str
    commit: str
    interpreter: str
    version: str
    packages: str
    key: str
    kept: str
    log: str


def show(project: Project, run: str) -> RunDetails:
    """The attempt called `run`, by a beginning or end of its name, or the newest of a stage called so. Raises `NotFound`."""
    found = record.read(project.state_dir, _name(project, run))
    if found is None:
        raise _unknown(run)
    facts = found.facts
    return RunDetails(
        found.run,
        found.stage,
        found.state,
        found.command,
        found.reasons,
        found.attempt,
        iso(found.began),
        found.wall,
        found.user,
        found.system,
        found.memory,
        found.exit_code,
        found.error,
        facts.host,
        facts.commit,
        facts.interpreter,
        facts.version,
        facts.packages,
        found.key,
        found.kept,
        f"{record.directory(project.state_dir, found.run)}/log",
    )


def _name(project: Project, run: str) -> str:
    names = record.names(project.state_dir)
    if run in names:
        return run
    of_stage = next(matching(project, run), None)
    if of_stage is not None:
        return of_stage.run
    close = [name for name in names if run and (name.startswith(run) or name.endswith(run))]
    if len(close) > 1:
        raise UsageError(f"{len(close)} runs are called {display(run)}…", f"write more of it: dvcx show {close[0]}")
    if not close:
        raise _unknown(run)
    return close[0]


def _unknown(run: str) -> NotFound:
    return NotFound(f"no run {display(run)} is remembered here", "dvcx runs lists those that are")
