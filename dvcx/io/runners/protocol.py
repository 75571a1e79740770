"""What runs actions somewhere: the protocol every runner speaks. A runner knows keys and stores, and no pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

WAITING, RUNNING, DONE, FAILED, CANCELLED, LOST = "waiting", "running", "done", "failed", "cancelled", "lost"
OVER = frozenset({DONE, FAILED, CANCELLED, LOST})


class Job(NamedTuple):
    """An action to run: its key, the remote its request, inputs and result go through, and what it needs of a machine.

    `cpu` counts cores, `memory` bytes (0: unknown), `gpu` devices, `timeout` seconds (0: none). `force` runs it though its
    result is known.
    """

    key: str
    remote: str = ""
    cpu: float = 1.0
    memory: int = 0
    gpu: float = 0.0
    timeout: float = 0.0
    force: bool = False


class JobState(NamedTuple):
    """How a job is: `state` is waiting, running, done, failed, cancelled or lost; `code` the exit code of one that is over.

    `began` and `ended` are unix seconds, 0.0 while unknown. `lost`: it ended without leaving word, or was never there.
    """

    id: str
    key: str
    state: str
    code: int = 0
    began: float = 0.0
    ended: float = 0.0


class Runner(Protocol):
    """Runs jobs side by side, out of this process. Whoever submitted them may end; another process may ask for them by id."""

    shares_cache: bool
    """Whether jobs use this project's cache; else requests, inputs and results go through a remote, which a job names."""

    def submit(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        """Begin jobs, or line them up; an id for each, in their order. One whose action is under way may get the id of that."""

    def poll(self, ids: Sequence[str]) -> tuple[JobState, ...]:
        """How these jobs are, in their order: one question for all of them."""

    def cancel(self, ids: Sequence[str]) -> None:
        """End jobs with all they started; fine for those that are over. Returns when they are ended, or were told to."""

    def logs(self, id: str, start: int = 0) -> Iterator[bytes]:
        """What a job printed so far, from byte `start` on; nothing while it waits. Raises `NotFound` for no job."""
