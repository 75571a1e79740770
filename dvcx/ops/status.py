"""status: what changed since it was recorded, which stages are stale, and why. Writes nothing but memories."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.objects import TREE, Content, entry_content
from dvcx.core.paths import contains, several
from dvcx.core.pipeline.graph import order
from dvcx.core.pipeline.schema import Stage
from dvcx.core.staleness import DEP_MISSING, FRESH, SKIPPED, Snapshot, Verdict, forecast
from dvcx.errors import NotFound, display
from dvcx.events import Emit, ignore
from dvcx.ops import records
from dvcx.ops.known import KnownResults
from dvcx.ops.looking import entry_at, observe
from dvcx.ops.placed import Parts
from dvcx.ops.records import Tracked
from dvcx.ops.snapshot import describe, snapshot, stage_paths

if TYPE_CHECKING:
    from dvcx.core.holding import Holding
    from dvcx.ops.actions import Results
    from dvcx.project import Project


NOT_PULLED = "not pulled"
UNKNOWN = "a listing to compare it with is not in the cache"
UNTOLD = "not here, and nobody can tell what it is without the listing of"


@dataclass(frozen=True, slots=True)
class DataChange:
    """A tracked path, or an output that was never placed here, that is not as recorded; `text` tells how.

    `state` is modified, deleted, missing (deleted, and not in the cache either), or not pulled: nothing was changed here, but
    it, or a part of it, was never placed in this workspace.
    """

    path: str
    state: str
    text: str


@dataclass(frozen=True, slots=True)
class StageStatus:
    """How a stage is (fresh, missing, stale, upstream) and every reason, in words.

    `plan` is what `repro` would do with it: unchanged, would restore, would run or might run; `remote` where the known result
    comes from that it would restore, "" for the cache.
    """

    stage: str
    state: str
    reasons: tuple[str, ...]
    plan: str
    remote: str = ""


@dataclass(frozen=True, slots=True)
class Status:
    """The state of the project; `tracked` counts pointers, `clean` is True when nothing changed and no stage is stale.

    `remotes` is what remotes hold, when that was asked; `clean` then also means that they lack nothing. `not_pulled` counts
    tracked paths that, or parts of which, were never placed here and were taken to be as recorded (`check`).
    """

    data: tuple[DataChange, ...]
    stages: tuple[StageStatus, ...]
    tracked: int
    clean: bool
    remotes: tuple[Holding, ...] = ()
    not_pulled: int = 0


def status(project: Project, targets: Sequence[str] = (), *, remote: str | None = None, emit: Emit = ignore) -> Status:
    """Compare the workspace with the records; targets are tracked paths, directories around them, or stages.

    With `remote` ("" is the default one) what is needed is compared with what is really there, too, and results that it ("": any
    remote) knows count as known. That raises `IntegrityError` for an object that is there with another seal, and `RemoteFailed`.
    """
    return answer(project, targets, remote=remote, absent_as_recorded=False, emit=emit)


def answer(project: Project, targets: Sequence[str], *, remote: str | None, absent_as_recorded: bool, emit: Emit) -> Status:
    """The work of `status`. `absent_as_recorded` takes data that is not in the workspace to be what its record says."""
    targets = several(targets)
    tracked = records.load(project)
    graph = tracked.graph
    stages, paths = chosen(tracked, targets)
    index = project.stat_index(emit)
    known = KnownResults(project, emit, asking(project, stages, remote, emit))
    parts = Parts(project, tracked, index, emit, listings=None if remote is None else known.trees())
    try:
        rules = project.rules()
        seen = observe(project, [*paths, *stage_paths(stages)], index=index, rules=rules, emit=emit)
        passed = []
        if absent_as_recorded:
            absent = [path for path in paths if seen.get(path) is None]
            passed = [item for item in data_changes(project, tracked, absent, seen, parts, emit) if item.state == NOT_PULLED]
            seen.update(_recorded(tracked, [path for path, content in seen.items() if content is None], known))
        data = data_changes(project, tracked, paths, seen, parts, emit)
        if data:
            from dvcx.ops.linked import telling

            data = telling(project, tracked, data, seen, index, emit)
        if absent_as_recorded:
            passed += [change for change in data if change.state == NOT_PULLED]
            data = [change for change in data if change.state != NOT_PULLED]
        now = snapshot(project, stages, tracked.lock, index=index, rules=rules, emit=emit, parts=parts, seen=seen)
        (passed if absent_as_recorded else data).extend(outputs_left(stages, seen, now))
        named = {stage.address for stage in stages}
        ordered = [stage for stage in order(graph) if stage.address in named]
        verdicts = forecast(ordered, tracked.lock, now, graph.upstream, known, known.inside, known.values)
        if any(verdict.state not in (FRESH, SKIPPED) for verdict in verdicts):
            from dvcx.ops.runs import recalled

            verdicts = recalled(project, verdicts)
        contents = tracked.contents() if any(verdict.reasons for verdict in verdicts) else {}
        found = tuple(
            StageStatus(verdict.stage.address, verdict.state, _texts(verdict, contents, known), verdict.plan, verdict.remote)
            for verdict in verdicts
        )
        index.flush()
    finally:
        known.close()
        parts.close()
        index.close()
    remotes = _remotes(project, tracked, targets, remote, emit) if remote is not None else ()
    settled = all(verdict.state in (FRESH, SKIPPED) for verdict in verdicts)
    clean = not data and settled and not any(held.missing for held in remotes)
    return Status(tuple(data), found, len(paths), clean, remotes, len(passed))


def outputs_left(stages: Sequence[Stage], seen: Mapping[str, Content | None], now: Snapshot) -> list[DataChange]:
    """The outputs that are not in the workspace and count as recorded, since they never came here."""
    found = []
    for stage in stages:
        for out in stage.outs:
            content = now.contents.get(out.path) if out.path in now.not_pulled and seen.get(out.path) is None else None
            if content is not None:
                files = f", {_files(content)}" if content.kind == TREE else ""
                found.append(DataChange(out.path, NOT_PULLED, f"output of {stage.address}{files}"))
    return found


def asking(project: Project, stages: Sequence[Stage], remote: str | None, emit: Emit) -> Results | None:
    """What asks a remote ("" any) for results of these stages; None when none was named: then nothing talks to a remote."""
    if remote is None:
        return None
    from dvcx.ops.actions import Results

    return Results(project, keys=len(stages), patient=True, emit=emit, only=remote)


def _remotes(project: Project, tracked: Tracked, targets: Sequence[str], remote: str, emit: Emit) -> tuple[Holding, ...]:
    # Only who asks pays for what talks to remotes.
    from dvcx.ops.holding import holdings

    return holdings(project, tracked, targets, remote=remote, emit=emit)


def chosen(tracked: Tracked, targets: Sequence[str]) -> tuple[list[Stage], list[str]]:
    """The stages and the tracked paths that targets name: all without any. Raises `NotFound`."""
    if not targets:
        return list(tracked.stages), list(tracked.pointers)
    stages: list[Stage] = []
    paths: list[str] = []
    for target in targets:
        named = [stage for stage in tracked.stages if stage.named(target)]
        named += [
            stage
            for stage in tracked.stages
            if any(contains(target, out.path) or contains(out.path, target) for out in stage.outs) and stage not in named
        ]
        below = [path for path in tracked.pointers if contains(target, path) or contains(path, target)]
        if not named and not below and target:
            raise records.not_tracked(tracked, target)
        stages += [stage for stage in named if stage not in stages]
        paths += [path for path in below if path not in paths]
    return stages, paths


def _recorded(tracked: Tracked, absent: Sequence[str], known: KnownResults) -> dict[str, Content]:
    """Recorded contents of those absent paths that have one; below a tracked directory, where a listing tells."""
    recorded = tracked.contents()
    found = {path: recorded[path] for path in absent if path in recorded}
    for path in absent:
        owner = next((owner for owner in recorded if contains(owner, path)), "")
        if owner and path not in found:
            with contextlib.suppress(NotFound):
                entry = entry_at(known.trees(), owner, recorded[owner], path)
                if entry is not None:
                    found[path] = entry_content(entry)
    return found


def _texts(verdict: Verdict, contents: Mapping[str, Content], known: KnownResults) -> tuple[str, ...]:
    """The reasons in words. What lies in a tracked directory of which no listing is here is not known to be missing."""
    texts = [reason.text for reason in verdict.reasons]
    for number, reason in enumerate(verdict.reasons):
        if reason.kind == DEP_MISSING:
            owner = next((owner for owner in contents if owner != reason.subject and contains(owner, reason.subject)), "")
            try:
                if owner:
                    entry_at(known.trees(), owner, contents[owner], reason.subject)
            except NotFound:
                texts[number] = f"{display(reason.subject)}: {UNTOLD} {display(owner)}"
    return tuple(texts)


def data_changes(
    project: Project,
    tracked: Tracked,
    paths: Sequence[str],
    seen: Mapping[str, Content | None],
    parts: Parts,
    emit: Emit,
) -> list[DataChange]:
    """Those of these pointers' paths that are not as recorded, `seen` being what is there, and how."""
    changes = []
    for path in sorted(paths):
        recorded = tracked.pointers[path][1].content
        now = seen[path]
        if now == recorded:
            continue
        if now is None:
            changes.append(_absent(project, path, recorded, parts, emit))
        elif now.kind != recorded.kind:
            changes.append(DataChange(path, "modified", f"a {_word(recorded)} became a {_word(now)}"))
        elif now.kind == TREE:
            changes.append(_directory(project, path, recorded, now, parts, emit))
        elif (now.id, now.seal) == (recorded.id, recorded.seal):
            changes.append(DataChange(path, "modified", "only its execute permission"))
        elif now.size == recorded.size:
            changes.append(DataChange(path, "modified", f"other content, {now.size:,} bytes as before"))
        else:
            changes.append(DataChange(path, "modified", f"{recorded.size:,} → {now.size:,} bytes"))
    return changes


def _directory(project: Project, path: str, recorded: Content, now: Content, parts: Parts, emit: Emit) -> DataChange:
    merged = parts.partial(path, now)
    if merged is None or merged.content is None:
        text = describe(project, path, recorded, now, parts=parts, emit=emit)
        return DataChange(path, "modified", text or UNKNOWN)
    left = f"{merged.files:,} of {recorded.files:,} files"
    if merged.content == recorded:
        return DataChange(path, NOT_PULLED, left)
    text = describe(project, path, recorded, merged.content, parts=parts, emit=emit)
    return DataChange(path, "modified", f"{text}; {left} not pulled" if text else f"{left} not pulled")


def _absent(project: Project, path: str, recorded: Content, parts: Parts, emit: Emit) -> DataChange:
    if recorded.kind != TREE:
        return _gone(project, path, recorded, emit) if parts.here(path).anything else DataChange(path, NOT_PULLED, "")
    merged = parts.merged(path, None)
    if merged is None or merged.content is None:
        return _gone(project, path, recorded, emit)
    if merged.content == recorded:
        return DataChange(path, NOT_PULLED, _files(recorded))
    return DataChange(path, "deleted", f"{merged.files:,} of {recorded.files:,} files not pulled")


def _gone(project: Project, path: str, recorded: Content, emit: Emit) -> DataChange:
    cache = project.cache(emit)
    try:
        held = bool(cache.have([recorded.id]))
    finally:
        cache.close()
    return DataChange(path, "deleted", "") if held else DataChange(path, "missing", "not in the workspace, not in the cache")


def _files(content: Content) -> str:
    return f"{content.files:,} {'file' if content.files == 1 else 'files'}"


def _word(content: Content) -> str:
    return "directory" if content.kind == TREE else "file"
