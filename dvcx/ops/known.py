"""Results that are known already: what `repro` would restore instead of running a stage. Only asks; restores nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dvcx.core.objects import TREE, Content
from dvcx.core.pipeline.dependencies import externals
from dvcx.core.pipeline.schema import Stage
from dvcx.core.records import LockEntry
from dvcx.core.staleness import ALWAYS, Known, Reason, Snapshot, action_key
from dvcx.errors import DvcxError, NotFound, RemoteFailed
from dvcx.events import Emit
from dvcx.io.hashing import seal

if TYPE_CHECKING:
    from dvcx.core.changes import ReadTree
    from dvcx.io.store.store import Store
    from dvcx.ops.actions import Results
    from dvcx.project import Project


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
    # A frozen stage is judged by its outputs alone: its inputs may be others than those its result was made from. An output
    # that stays in place is made from what it was before, too, and the key says nothing of that.
    keyed = not stage.frozen and not any(out.persist for out in stage.outs)
    outs, remote = _kept(cache, key) if keyed else None, ""
    if outs is None and locked is not None and only_outputs(reasons):
        outs = locked.outs
    if outs is None and keyed and remotes is not None:
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

    With `remotes` what they know counts, too (`close` lets go of them); without, nothing is asked over a network.
    """

    def __init__(self, project: Project, emit: Emit, remotes: Results | None = None) -> None:
        self._project, self._emit, self._remotes = project, emit, remotes
        self._cache: Store | None = None

    def close(self) -> None:
        """Let go of the cache and of the remotes."""
        if self._cache is not None:
            self._cache.close()
        if self._remotes is not None:
            self._remotes.close()

    def __call__(
        self, stage: Stage, now: Snapshot, locked: LockEntry | None, reasons: tuple[Reason, ...]
    ) -> Known | None:
        """What would be restored and where its bytes are; None where the stage has to run. What cannot be read is not known.

        Raises `RemoteFailed` when the remotes are patient.
        """
        if now.unasked and any(want.value in now.unasked for want in externals(stage)):
            return None
        known = known_result(stage, now, locked, reasons, self.cache, self._remotes)
        try:
            where = self._where(known.outs) if known is not None else None
        except RemoteFailed:
            raise
        except DvcxError:
            return None
        return Known(known.outs, where) if known is not None and where is not None else None

    def _where(self, outs: Mapping[str, Content]) -> str | None:
        from dvcx.ops.transfer import holds

        cache = self.cache()
        if self._remotes is not None:
            return self._remotes.where(outs, cache)
        return "" if holds(cache, outs) else None

    def inside(self, owner: str, content: Content, path: str) -> Content | None:
        """What a known directory has at a path in it; None where nothing is, or no listing tells."""
        from dvcx.ops.looking import content_at

        return content_at(self.trees(), owner, content, path)

    def trees(self) -> ReadTree:
        """Reads directories that need not be here: from the cache, and from remotes when these were asked for."""
        from dvcx.ops.looking import stored_trees

        return stored_trees(self.cache()) if self._remotes is None else self._remotes.trees(self.cache())

    def values(self, file: str, content: Content) -> Mapping[str, Any] | None:
        """What a known params file says; None where nobody has it, or it cannot be parsed."""
        from dvcx.io.store.store import wanted
        from dvcx.io.yaml import load_params
        from dvcx.ops.snapshot import MAX_PARAMS

        if content.kind == TREE or content.size > MAX_PARAMS:
            return None
        try:
            cache = self.cache()
            data = cache.read(wanted(content)) if self._remotes is None else self._remotes.read(content, cache)
            return load_params(data, file) if data is not None else None
        except RemoteFailed:
            raise
        except DvcxError:
            return None

    def cache(self) -> Store:
        """The cache, opened when it is asked for."""
        if self._cache is None:
            self._cache = self._project.cache(self._emit)
        return self._cache
