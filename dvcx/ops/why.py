"""why: the tree of reasons behind what `repro` would do with a stage, and what is at a path. Writes nothing but memories."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from dvcx.core.objects import Content, entry_content
from dvcx.core.paths import contains, several
from dvcx.core.pipeline.graph import Graph, order
from dvcx.core.pipeline.schema import Stage
from dvcx.core.reasons import compared
from dvcx.core.records import POINTER_SUFFIX
from dvcx.core.staleness import (
    NOT_WANTED,
    UNCHANGED,
    WOULD_RESTORE,
    WOULD_RUN,
    Snapshot,
    Verdict,
    forecast,
)
from dvcx.errors import DvcxError, NotFound, UsageError, display
from dvcx.events import Emit, ignore
from dvcx.io.statindex import StatIndex
from dvcx.ops import records
from dvcx.ops.causes import Cause, Causes
from dvcx.ops.known import KnownResults
from dvcx.ops.looking import entry_at, observe
from dvcx.ops.placed import Parts
from dvcx.ops.records import Tracked
from dvcx.ops.runs import recalled
from dvcx.ops.snapshot import snapshot, stage_paths
from dvcx.ops.status import NOT_PULLED, asking, data_changes

if TYPE_CHECKING:
    from dvcx.project import Project

POINTER, OUTPUT, READ = "pointer", "output", "read"
AS_RECORDED, NEVER_RECORDED = "as recorded", "never recorded"
LIMIT = 10


@dataclass(frozen=True, slots=True)
class PathAnswer:
    """What a path is. `kind`: pointer (tracked by a pointer), output (of a stage) or read (by stages; git or nobody keeps it).

    `owner` is the tracked path that is or holds it, "" when nothing does; `by` the pointer's file or the stage that writes it;
    `read_by` the stages that read it. `state` is "as recorded" or what differs, in words.
    """

    path: str
    kind: str
    owner: str
    by: str
    state: str
    read_by: tuple[str, ...]
    causes: tuple[Cause, ...]


@dataclass(frozen=True, slots=True)
class StageAnswer:
    """Why a stage is what it is: `state`, `plan` and `remote` as in `status`, `where` it is written.

    `causes` are the reasons to run it; of a fresh stage what was compared and found the same.
    """

    stage: str
    state: str
    plan: str
    where: str
    causes: tuple[Cause, ...]
    remote: str = ""


@dataclass(frozen=True, slots=True)
class Why:
    """The paths and the stages that were asked about, and what a `repro` of them would restore, run, and perhaps run."""

    paths: tuple[PathAnswer, ...]
    stages: tuple[StageAnswer, ...]
    restore: tuple[str, ...]
    run: tuple[str, ...]
    might_run: tuple[str, ...]


def why(
    project: Project, targets: Sequence[str], *, limit: int = LIMIT, remote: str | None = None, emit: Emit = ignore
) -> Why:
    """The reasons behind stages and paths, down to their source; of one thing at most `limit` are told, 0 tells all.

    With `remote` ("" any) results that it knows count as known, and its failure is an error.

    A target is a stage's name or address, a dvcx.yaml, a tracked path, one inside it or a directory around it, an output, or
    a file that a stage reads. Raises `NotFound` for what no record knows, `UsageError` for no target or an ambiguous name.
    """
    targets = several(targets)
    if not targets:
        raise UsageError("why what? No stage or path is named", "dvcx why STAGE; dvcx status names those that are stale")
    tracked = records.load(project)
    graph = tracked.graph
    subjects = [_subject(tracked, graph, target) for target in targets]
    stages = {address: None for subject in subjects for address in subject.stages}
    chosen = order(graph, tuple(stages)) if stages else ()
    index = project.stat_index(emit)
    parts, known = Parts(project, tracked, index, emit), KnownResults(project, emit, asking(project, chosen, remote, emit))
    try:
        now, seen = _look(project, tracked, subjects, chosen, index, parts, emit)
        foretold = forecast(chosen, tracked.lock, now, graph.upstream, known, known.inside, known.values)
        verdicts = {verdict.stage.address: verdict for verdict in recalled(project, foretold)}
        causes = Causes(project, graph, verdicts, parts, emit, limit=limit)
        try:
            answers = [_stage_answer(tracked, verdicts[address], now, causes) for address in stages]
            world = _World(now, seen, parts, causes, emit)
            paths = dict.fromkeys(path for subject in subjects for path in subject.paths)
            told = [_path_answer(project, tracked, graph, verdicts, path, world) for path in paths]
        finally:
            causes.close()
        index.flush()
    finally:
        known.close()
        parts.close()
        index.close()
    plans = {address: verdict.plan for address, verdict in verdicts.items() if verdict.plan not in (UNCHANGED, NOT_WANTED)}
    return Why(
        tuple(told),
        tuple(answers),
        tuple(address for address, plan in plans.items() if plan == WOULD_RESTORE),
        tuple(address for address, plan in plans.items() if plan == WOULD_RUN),
        tuple(address for address, plan in plans.items() if plan not in (WOULD_RESTORE, WOULD_RUN)),
    )


class _Subject(NamedTuple):
    """What a target names: paths, and the stages to tell about: those that write them, or else those that read them."""

    stages: tuple[str, ...]
    paths: tuple[str, ...] = ()


def _subject(tracked: Tracked, graph: Graph, target: str) -> _Subject:
    named = [stage for stage in graph.stages.values() if target in (stage.address, stage.name)]
    if len(named) > 1 and target not in graph.stages:
        listed = " or ".join(display(stage.address) for stage in named)
        raise UsageError(f"several stages are named '{display(target)}'", f"say which: {listed}")
    if named:
        return _Subject((target if target in graph.stages else named[0].address,))
    in_file = tuple(address for address, stage in graph.stages.items() if stage.file == target)
    if in_file:
        return _Subject(in_file)
    pointed = target.removesuffix(POINTER_SUFFIX)
    path = pointed if pointed in tracked.pointers else target
    owned = {*tracked.pointers, *graph.owners}
    paths = [path] if any(contains(owner, path) for owner in owned) else sorted(one for one in owned if contains(path, one))
    makers = {graph.owners[owner] for one in paths for owner in graph.owners if contains(owner, one)}
    if not makers:
        makers = {reader for one in paths or [path] for reader in _readers(tracked, one)}
        if not paths and not makers:
            raise _unknown(tracked, graph, target)
    return _Subject(tuple(address for address in graph.stages if address in makers), tuple(paths or [path]))


def _readers(tracked: Tracked, path: str) -> tuple[str, ...]:
    """The stages that read a path, or something in it or around it: as written, and as their last run found it."""
    found = []
    for stage in tracked.stages:
        entry = tracked.lock.get(stage.address)
        reads = (*stage.deps, *(of.file for of in stage.params), *(entry.deps if entry is not None else ()))
        if any(contains(one, path) or contains(path, one) for one in reads):
            found.append(stage.address)
    return tuple(found)


def _unknown(tracked: Tracked, graph: Graph, target: str) -> NotFound:
    from dvcx.core.spelling import did_you_mean

    known = [*graph.stages, *(stage.name for stage in graph.stages.values()), *tracked.pointers]
    known += [path for stage in graph.stages.values() for path in (*stage_paths([stage]), *(of.file for of in stage.params))]
    return NotFound(
        f"no record knows '{display(target[:200])}': it is no stage, not tracked, and no stage reads or writes it",
        did_you_mean(target, dict.fromkeys(known)) or "dvcx stage list and dvcx list show what there is",
    )


def _look(
    project: Project,
    tracked: Tracked,
    subjects: Sequence[_Subject],
    chosen: Sequence[Stage],
    index: StatIndex,
    parts: Parts,
    emit: Emit,
) -> tuple[Snapshot, Mapping[str, Content | None]]:
    """The snapshot of the stages, with what is at the paths that were asked about, and at their owners; and what was seen."""
    rules = project.rules()
    asked = {path for subject in subjects for path in subject.paths}
    asked |= {owner for path in asked for owner in (records.owner_of(tracked, path),) if owner}
    seen = observe(project, [*asked, *stage_paths(chosen)], index=index, rules=rules, emit=emit)
    return snapshot(project, chosen, tracked.lock, index=index, rules=rules, emit=emit, parts=parts, seen=seen), seen


class _World(NamedTuple):
    """What path answers are told from; `seen` is what is really there."""

    now: Snapshot
    seen: Mapping[str, Content | None]
    parts: Parts
    causes: Causes
    emit: Emit


def _stage_answer(tracked: Tracked, verdict: Verdict, now: Snapshot, causes: Causes) -> StageAnswer:
    stage = verdict.stage
    locked = tracked.lock.get(stage.address)
    reasons = verdict.reasons or compared(stage, locked, now)
    told = causes.of(reasons, stage=stage.address)
    return StageAnswer(stage.address, verdict.state, verdict.plan, stage.where(), told, verdict.remote)


def _path_answer(
    project: Project, tracked: Tracked, graph: Graph, verdicts: Mapping[str, Verdict], path: str, world: _World
) -> PathAnswer:
    pointer = next((known for known in tracked.pointers if contains(known, path)), "")
    if pointer:
        return _pointer_answer(project, tracked, path, pointer, world)
    out = next((known for known in graph.owners if contains(known, path)), "")
    if out:
        return _output_answer(tracked, path, out, verdicts[graph.owners[out]], world)
    readers = _readers(tracked, path)
    content = world.now.contents.get(path)
    entries = {reader: tracked.lock[reader].deps.get(path) for reader in readers if reader in tracked.lock}
    changed = [reader for reader, read in entries.items() if read is not None and read != content]
    state = "not tracked by dvcx" + (f", not as {', '.join(changed[:3])} read it" if changed else "")
    return PathAnswer(path, READ, "", "", state, readers, ())


def _pointer_answer(project: Project, tracked: Tracked, path: str, pointer: str, world: _World) -> PathAnswer:
    file, record = tracked.pointers[pointer]
    readers = _readers(tracked, path)
    if path != pointer:
        state, below = _inside(path, pointer, record.content, world)
        return PathAnswer(path, POINTER, pointer, file, state, readers, below)
    changes = data_changes(project, tracked, [path], world.seen, world.parts, world.emit)
    content = world.seen.get(path)
    told = world.causes.between(path, record.content, content) if changes and content is not None else ()
    state = ": ".join(word for word in (changes[0].state, changes[0].text) if word) if changes else AS_RECORDED
    return PathAnswer(path, POINTER, path, file, state, readers, told)


def _output_answer(tracked: Tracked, path: str, out: str, verdict: Verdict, world: _World) -> PathAnswer:
    address = verdict.stage.address
    entry = tracked.lock.get(address)
    told: tuple[Cause, ...] = ()
    left = out in world.now.not_pulled and world.seen.get(out) is None
    if entry is None or out not in entry.outs:
        state = NEVER_RECORDED
    elif path != out:
        state, told = _inside(path, out, entry.outs[out], world)
        state = NOT_PULLED if left and state == AS_RECORDED else state
    else:
        about = [reason.text.removeprefix(f"{out}: ") for reason in verdict.reasons if reason.subject == out]
        state = about[0] if about else NOT_PULLED if left else AS_RECORDED
    return PathAnswer(path, OUTPUT, out, address, state, _readers(tracked, path), told)


def _inside(path: str, owner: str, recorded: Content, world: _World) -> tuple[str, tuple[Cause, ...]]:
    """The state of a path inside a tracked directory, and the files below it that changed."""
    current, causes = world.now.contents.get(owner), world.causes
    try:
        old = entry_at(causes.read, owner, recorded, path)
        new = entry_at(causes.read, owner, current, path) if current is not None else None
    except DvcxError:
        return "a listing to compare it with is not in the cache", ()
    if old is None and new is None:
        return "neither recorded nor there", ()
    if old is None or new is None:
        return ("added since it was recorded" if old is None else "deleted since it was recorded, or not pulled"), ()
    if (old.kind, old.id, old.seal) == (new.kind, new.id, new.seal):
        return AS_RECORDED, ()
    return "modified since it was recorded", causes.between(path, entry_content(old), entry_content(new))
