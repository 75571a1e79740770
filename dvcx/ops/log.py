"""log: what a stage's command printed when it ran last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.errors import NotFound
from dvcx.io import runs as record
from dvcx.ops.runs import matching, no_runs

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class Log:
    """What one attempt printed, stdout and stderr as they came; bytes that are no UTF-8 are replaced. `state` as in `runs`.

    Of a very long log `text` is the end: `skipped` bytes come before it in the file at `path`.
    """

    run: str
    stage: str
    state: str
    text: str
    path: str
    skipped: int = 0


def log(project: Project, stage: str = "") -> Log:
    """The log of a stage's newest attempt, or of the newest of all. Raises `NotFound` when there is none."""
    found = next(matching(project, stage), None)
    if found is None:
        raise no_runs(stage) if stage else NotFound("no run is remembered here", "dvcx repro runs stages")
    data, skipped = record.read_log(project.state_dir, found.run)
    text = data.decode("utf-8", "replace")
    return Log(found.run, found.stage, found.state, text, record.log_path(project.state_dir, found.run), skipped)
