"""What work tells about itself while it runs, in domain words. Values only; the face decides what is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Began:
    """A phase began. `files` and `bytes` are its totals, 0 when unknown. Phases do not nest."""

    phase: str
    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Advanced:
    """The running phase did this much more."""

    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Ended:
    """The running phase is over."""

    phase: str


@dataclass(frozen=True, slots=True)
class Warned:
    """Something the user should know that is no failure."""

    message: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Noted:
    """A step taken, told as it happens (shown unless --quiet)."""

    message: str


@dataclass(frozen=True, slots=True)
class StageBegan:
    """A stage's command starts. `command` as it is run, `reasons` why."""

    stage: str
    command: str
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StageEnded:
    """A stage is over: `how` is ran, restored, unchanged, skipped or failed; seconds of wall time."""

    stage: str
    how: str
    seconds: float = 0.0


Event = Began | Advanced | Ended | Warned | Noted | StageBegan | StageEnded
Emit = Callable[[Event], None]


def ignore(event: Event) -> None:
    """The default listener: nobody."""
