"""What work tells about itself while it runs, in domain words. Values only; the face decides what is drawn.

Named tuples: a frozen dataclass costs five times as much to define, and every command defines these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Began(NamedTuple):
    """A phase began. `files` and `bytes` are its totals, 0 when unknown. Phases do not nest."""

    phase: str
    files: int = 0
    bytes: int = 0


class Advanced(NamedTuple):
    """The running phase did this much more."""

    files: int = 0
    bytes: int = 0


class Ended(NamedTuple):
    """The running phase is over."""

    phase: str


class Warned(NamedTuple):
    """Something the user should know that is no failure."""

    message: str
    hint: str = ""


class Noted(NamedTuple):
    """A step taken, told as it happens (shown unless --quiet)."""

    message: str


class StageBegan(NamedTuple):
    """A stage's command starts. `command` as it is run, `reasons` why."""

    stage: str
    command: str
    reasons: tuple[str, ...] = ()


class StageEnded(NamedTuple):
    """A stage is over: `how` is ran, restored, unchanged, skipped or failed; seconds of wall time."""

    stage: str
    how: str
    seconds: float = 0.0


class StageOutput(NamedTuple):
    """What a stage's command printed: pieces as they came when it runs `alone`, else whole lines. `error`: on stderr."""

    stage: str
    data: bytes
    error: bool = False
    alone: bool = False


class StagesRun(NamedTuple):
    """How far a run of stages is, told some times a second.

    `running` are stages with the seconds they have taken so far; `cached` are those of `done` that were not run but restored.
    """

    done: int
    cached: int
    failed: int
    waiting: int
    running: tuple[tuple[str, float], ...] = ()


Event = Began | Advanced | Ended | Warned | Noted | StageBegan | StageEnded | StageOutput | StagesRun
Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The default listener: nobody."""
