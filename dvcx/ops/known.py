"""Results that are known already: what `repro` would restore instead of running a stage. Only asks; restores nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

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
        if any(reason.kind == ALWAYS for reason in reasons):
            return None
        outs = self._recorded(stage, now)
        if outs is None and locked is not None and all(reason.kind.startswith("out_") for reason in reasons):
            outs = locked.outs
        if not outs or set(outs) != {out.path for out in stage.outs}:
            return None
        try:
            return outs if self._held(outs) else None
        except DvcxError:
            return None

    def _recorded(self, stage: Stage, now: Snapshot) -> Mapping[str, Content] | None:
        """What the action cache has. A frozen stage is judged by its outputs alone: its inputs may be others by now."""
        if stage.frozen:
            return None
        try:
            key = seal(action_key(stage, now)).hex()
        except NotFound:
            return None
        from dvcx.io.store.actions import read_action

        try:
            cache = self._open()
            action = read_action(cache.backend, key, cache.label)
        except DvcxError:
            return None
        if action is not None:
            return action.outs
        found = self._remotes.find(key, {out.path for out in stage.outs}) if self._remotes and stage.outs else None
        return found.outs if found is not None else None

    def _held(self, outs: Mapping[str, Content]) -> bool:
        from dvcx.ops.transfer import needed

        cache = self._open()
        if self._remotes is not None:
            return self._remotes.hold(outs, cache)
        return not cache.missing(needed(outs, cache).objects)

    def _open(self) -> Store:
        if self._cache is None:
            self._cache = self._project.cache(self._emit)
        return self._cache
