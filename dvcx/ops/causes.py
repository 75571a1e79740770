"""Reasons as a tree of causes: down to the file inside a directory, the word of a command, and the stage it all began with."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dvcx.core.changes import ADDED, DELETED, MODIFIED, RENAMED, Change, differences, file_changes
from dvcx.core.objects import BLOB, Content, Entry
from dvcx.core.paths import contains
from dvcx.core.pipeline.graph import Graph
from dvcx.core.reasons import line_changes, token_changes
from dvcx.core.records import canonical
from dvcx.core.staleness import COMMAND, UPSTREAM, WOULD_RESTORE, Reason, Verdict
from dvcx.errors import DvcxError, amount, display
from dvcx.events import Emit
from dvcx.io import files
from dvcx.ops.looking import stored_trees
from dvcx.ops.placed import Parts
from dvcx.ops.snapshot import MAX_LINES, is_table

if TYPE_CHECKING:
    from dvcx.io.store.store import Store
    from dvcx.project import Project

MAX_DEPTH = 12
"""So many stages are followed upstream one in another; what lies behind is told by its sources."""
MAX_SOURCES = 3

_STATES = (MODIFIED, RENAMED, DELETED, ADDED)

LINES, MORE, ABOVE = "lines", "more", "above"


Value = str | int | float | bool | None


@dataclass(frozen=True, slots=True)
class Cause:
    """One cause, in words: its `kind`, the path, parameter or stage it is about, what was and what is, and its own causes.

    `old` and `new` are null where there is nothing to name: else the value of a parameter (a list or mapping as JSON), the
    command or words of it, the id of a content. A cause of kind `more` stands for what was left out: `new` is the number.
    """

    kind: str
    subject: str
    text: str
    old: Value = None
    new: Value = None
    causes: tuple[Cause, ...] = ()


class Causes:
    """Tells the causes of verdicts for one answer. A stage is told once. `limit` is the number told of one thing; 0 is all."""

    def __init__(
        self, project: Project, graph: Graph, verdicts: Mapping[str, Verdict], parts: Parts, emit: Emit, *, limit: int
    ) -> None:
        self._project, self._graph, self._verdicts, self._parts = project, graph, verdicts, parts
        self._emit, self._limit = emit, limit
        self._cache: Store | None = None
        self._told: set[str] = set()

    def close(self) -> None:
        """Let go of the cache."""
        if self._cache is not None:
            self._cache.close()

    def of(self, reasons: Iterable[Reason], *, stage: str = "", depth: int = 0) -> tuple[Cause, ...]:
        """Reasons of any kind as causes; those of the stage at the address `stage`."""
        self._told.add(stage)
        found = list(reasons)
        shown = [self._cause(reason, stage, depth) for reason in self._cut(found)]
        return self._with_rest(shown, len(found))

    def changes(self, changes: Sequence[Change]) -> tuple[Cause, ...]:
        """Changed files as causes, those that tell most first."""
        ordered = sorted(changes, key=lambda change: (_STATES.index(change.state), change.path))
        return self._with_rest([_of_change(change) for change in self._cut(ordered)], len(changes))

    def between(self, path: str, old: Content, new: Content) -> tuple[Cause, ...]:
        """What changed between two contents of a path: files of a directory, lines of a small text."""
        if (old.id, old.seal) == (new.id, new.seal) or old.kind != new.kind:
            return ()
        try:
            if old.kind == BLOB:
                return () if is_table(path) else self._lines(path, old, new)
            changes = file_changes(differences(path, old, new, self.read, self.read), self.read, self.read)
        except DvcxError:
            text = "which files changed cannot be told: a listing to compare with is not in the cache"
            return (Cause(MORE, path, text),)
        return self.changes(changes)

    def _cut(self, found: Sequence[Any]) -> Sequence[Any]:
        # One more than the limit is shown rather than counted.
        return found[: self._limit] if 0 < self._limit < len(found) - 1 else found

    def _with_rest(self, shown: list[Cause], count: int) -> tuple[Cause, ...]:
        if len(shown) < count:
            shown.append(Cause(MORE, "", f"and {count - len(shown):,} more", None, count - len(shown)))
        return tuple(shown)

    def _cause(self, reason: Reason, stage: str, depth: int) -> Cause:
        below = list(self.of(reason.details, stage=stage, depth=depth)) if reason.details else []
        if reason.kind == COMMAND and reason.old is not None:
            below += self.of(token_changes(reason.old, reason.new), stage=stage)
        if isinstance(reason.old, Content) and isinstance(reason.new, Content):
            below += self.between(reason.subject, reason.old, reason.new)
        before = self._before(reason, stage)
        if before is not None:
            below += self._upstream(before, depth) if reason.kind == UPSTREAM else [self._restored(before, depth)]
        return Cause(reason.kind, reason.subject, reason.text, _plain(reason.old), _plain(reason.new), tuple(below))

    def _before(self, reason: Reason, stage: str) -> Verdict | None:
        """The stage that will do what the reason is about: of an UPSTREAM one, or the one that restores a path it names."""
        if reason.kind == UPSTREAM:
            return self._verdicts.get(reason.subject)
        needs = (self._verdicts.get(need) for need in self._graph.upstream.get(stage, ()))
        for verdict in needs if reason.subject else ():
            if verdict is None or verdict.plan != WOULD_RESTORE:
                continue
            if any(contains(out.path, reason.subject) for out in verdict.stage.outs):
                return verdict
        return None

    def _restored(self, verdict: Verdict, depth: int) -> Cause:
        address = verdict.stage.address
        return Cause(UPSTREAM, address, display(f"{address} {verdict.plan} it"), None, None, self._upstream(verdict, depth))

    def _upstream(self, verdict: Verdict, depth: int) -> tuple[Cause, ...]:
        address = verdict.stage.address
        if address in self._told:
            return (Cause(ABOVE, address, display(f"{address}: told above")),)
        if depth + 1 < MAX_DEPTH:
            return self.of(verdict.reasons, stage=address, depth=depth + 1)
        return self._sources(verdict)

    def _sources(self, verdict: Verdict) -> tuple[Cause, ...]:
        """The stages it all began with, far upstream of `verdict`, each with its own reasons alone."""
        seen, todo, sources = {verdict.stage.address}, [verdict], []
        while todo:
            at = todo.pop()
            own = [reason for reason in at.reasons if reason.kind != UPSTREAM]
            sources += [(at, own)] if own else []
            waits = [reason.subject for reason in at.reasons if reason.kind == UPSTREAM and reason.subject not in seen]
            seen.update(waits)
            todo += [self._verdicts[address] for address in waits if address in self._verdicts]
        shown = [
            Cause(
                UPSTREAM,
                source.stage.address,
                display(f"it begins {len(seen) - 1:,} stages before, with {source.stage.address}"),
                None,
                None,
                self.of(own, stage=source.stage.address, depth=MAX_DEPTH),
            )
            for source, own in sources[-MAX_SOURCES:]
        ]
        return self._with_rest(shown, len(sources))

    def _lines(self, path: str, old: Content, new: Content) -> tuple[Cause, ...]:
        if max(old.size, new.size) > MAX_LINES:
            return ()
        before, after = self._text(path, old), self._text(path, new)
        text = line_changes(before, after, "line") if before is not None and after is not None else ""
        return (Cause(LINES, path, text),) if text else ()

    def _text(self, path: str, content: Content) -> bytes | None:
        """The bytes of a small file, from the cache or as it lies in the workspace."""
        from dvcx.io.hashing import seal
        from dvcx.io.store.store import wanted

        with contextlib.suppress(DvcxError):
            return self._open().read(wanted(content))
        with contextlib.suppress(DvcxError):
            data = files.read_record(self._project.root, path, MAX_LINES)
            if data is not None and seal(data).hex() == content.seal:
                return data
        return None

    def read(self, path: str, content: Content) -> list[Entry]:
        """The entries of a directory as it lies in the workspace, or of any other from the cache."""
        try:
            return self._parts.read(path, content)
        except DvcxError:
            return stored_trees(self._open())(path, content)

    def _open(self) -> Store:
        if self._cache is None:
            self._cache = self._project.cache(self._emit)
        return self._cache


def _of_change(change: Change) -> Cause:
    sizes = {
        ADDED: amount(max(change.new_size, 0)),
        DELETED: amount(max(change.old_size, 0)),
        MODIFIED: f"{change.old_size:,} → {change.new_size:,} bytes",
        RENAMED: f"was {change.old_path}",
    }
    if change.state == MODIFIED and change.old_size == change.new_size:
        sizes[MODIFIED] = f"{change.new_size:,} bytes as before"
    text = display(f"{change.state} {change.path} ({sizes[change.state]})")
    return Cause(change.state, change.path, text, change.old_path or None)


def _plain(value: Any) -> Value:
    """A value of a reason as one that JSON knows without nesting."""
    if isinstance(value, Content):
        return value.id
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return canonical(value).decode("utf-8", "replace") if isinstance(value, Mapping | tuple | list) else str(value)
