"""Results that are known already: what `repro` would restore instead of running a stage. Only asks; restores nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from dvcx.core.objects import Content
from dvcx.core.pipeline.schema import Stage
from dvcx.core.records import LockEntry
from dvcx.core.staleness import ALWAYS, Reason, Snapshot, action_key
from dvcx.errors import DvcxError, NotFound
from dvcx.events import Emit
from dvcx.io.hashing import seal

if TYPE_CHECKING:
    from dvcx.io.store.store import Store
    from dvcx.ops.actions import Results
    from dvcx.project import Project


class Known(NamedTuple):
    """A result that is known; `remote` is the one that told it, "" where it was known here."""

    outs: Mapping[str, Content]
    remote: str = ""


def known_result(
    stage: Stage,
    now: Snapshot,
    locked: LockEntry | None,
    reasons: Sequence[Reason],
    cache: Callable[[], Store],
    remotes: Results | None,
) -> Known | None:
    """What would be restored instead of running the stage; whether its bytes are to be had is another question.

    First what the cache knows, then the lock's outputs when they alone differ, then what a remote knows.
    """
    paths = {out.path for out in stage.outs}
    if not paths or any(reason.kind == ALWAYS for reason in reasons):
        return None
    try:
        key = seal(action_key(stage, now)).hex()
    except NotFound:
        return None
    # A frozen stage is judged by its outputs alone: its inputs may be others than those its result was made from.
    outs, remote = None if stage.frozen else _kept(cache, key), ""
    if outs is None and locked is not None and only_outputs(reasons):
        outs = locked.outs
    if outs is None and not stage.frozen and remotes is not None:
        found = remotes.find(key, paths)
        if found is not None:
            outs, remote = found
    return Known(outs, remote) if outs is not None and set(outs) == paths else None


def only_outputs(reasons: Sequence[Reason]) -> bool:
    """Whether a stage is stale by nothing but its outputs."""
    return all(reason.kind.startswith("out_") for reason in reasons)


def _kept(cache: Callable[[], Store], key: str) -> Mapping[str, Content] | None:
    """What the action cache has. What cannot be read is not known."""
    from dvcx.io.store.actions import read_action

    try:
        store = cache()
        action = read_action(store.backend, key, store.label)
    except DvcxError:
        return None
    return None if action is None else action.outs


class KnownResults:
    """Answers for one command; the cache is opened when the first stage that is not fresh asks.

    With `remotes` what they know counts, too; without, nothing is asked over a network.
    """

    def __init__(self, project: Project, emit: Emit, remotes: Results | None = None) -> None:
        self._project, self._emit, self._remotes = project, emit, remotes
        self._cache: Store | None = None

    def close(self) -> None:
        """Let go of the cache."""
        if self._cache is not None:
            self._cache.close()

    def __call__(
        self, stage: Stage, now: Snapshot, locked: LockEntry | None, reasons: tuple[Reason, ...]
    ) -> Mapping[str, Content] | None:
        """The outputs that would be restored, None where the stage has to run. What cannot be read is not known."""
        known = known_result(stage, now, locked, reasons, self._open, self._remotes)
        try:
            return known.outs if known is not None and self._held(known.outs) else None
        except DvcxError:
            return None

    def _held(self, outs: Mapping[str, Content]) -> bool:
        from dvcx.ops.transfer import holds

        cache = self._open()
        return self._remotes.hold(outs, cache) if self._remotes is not None else holds(cache, outs)

    def _open(self) -> Store:
        if self._cache is None:
            self._cache = self._project.cache(self._emit)
        return self._cache
