"""repro: run what is stale, in order, and nothing else."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.paths import several
from dvcx.core.pipeline.graph import Graph, build, order
from dvcx.core.pipeline.schema import Stage
from dvcx.core.records import LockEntry
from dvcx.core.staleness import WOULD_RUN, Snapshot, forecast, judge
from dvcx.errors import Busy, Conflict, DvcxError, display
from dvcx.events import Emit, Noted, StageEnded, ignore
from dvcx.ops import placed, records
from dvcx.ops.add import add
from dvcx.ops.known import KnownResults
from dvcx.ops.looking import observe
from dvcx.ops.placed import Parts, mark_of
from dvcx.ops.records import Tracked
from dvcx.ops.running import MARK, Workshop, recover, restore, run, staged_records
from dvcx.ops.snapshot import snapshot
from dvcx.project import command_environment

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class StageRun:
    """A stage's turn. `how`: unchanged, restored, ran, failed or skipped; in a dry run unchanged, would restore, would run or
    might run. `reasons` in words, `seconds` of wall time, `error` with its hint."""

    stage: str
    how: str
    reasons: tuple[str, ...]
    seconds: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class Reproduced:
    """Every stage looked at, in order; `failed` counts those that failed or were skipped because of one."""

    runs: tuple[StageRun, ...]
    failed: int


def repro(
    project: Project,
    targets: Sequence[str] = (),
    *,
    dry_run: bool = False,
    force: bool = False,
    single_item: bool = False,
    downstream: bool = False,
    keep_going: bool = False,
    emit: Emit = ignore,
) -> Reproduced:
    """Judge each stage when its turn comes and run the stale ones. `force` runs fresh ones too.

    A stage's failure ends it, unless `keep_going`; it is in the result. Raises what records and the workspace raise.
    """
    targets = several(targets)
    if dry_run:
        return _forecast(project, targets, force=force, single_item=single_item, downstream=downstream, emit=emit)
    environment = command_environment()
    if environment.get(MARK) and environment.get("DVCX_PROJECT") == project.root:
        raise Conflict(
            f"stage '{display(environment[MARK])}' runs 'dvcx repro' in its own project: it would wait for itself",
            "let dvcx.yaml say what depends on what instead",
        )
    environment["DVCX_PROJECT"] = project.root
    with project.repro_lock("dvcx repro", emit):
        tracked = records.load(project)
        graph = build(tracked.stages, tracked.pointers)
        chosen = order(graph, targets, downstream=downstream, single=single_item)
        if _record_sources(project, tracked, graph, chosen, emit):
            tracked = records.load(project)
        cache = project.cache(emit, write=bool(chosen))
        index = project.stat_index(emit)
        touched: list[Stage] = []
        try:
            recover(project, chosen, emit)
            shop = Workshop(project, cache, index, project.rules(), environment, emit)
            runs = _turns(shop, tracked, graph, chosen, touched, force=force, keep_going=keep_going)
        finally:
            index.flush()
            index.close()
            cache.close()
            if touched:
                records.autostage(project, staged_records(touched))
        if touched:
            _note(project, touched, runs)
    return Reproduced(tuple(runs), sum(1 for item in runs if item.how in ("failed", "skipped")))


def _record_sources(project: Project, tracked: Tracked, graph: Graph, chosen: Sequence[Stage], emit: Emit) -> bool:
    """Tracked data that these stages read and that was edited is recorded first: a lock never names bytes that are nowhere."""
    sources = {path for stage in chosen for path in graph.sources[stage.address]}
    if not sources:
        return False
    index = project.stat_index(emit)
    try:
        now = observe(project, sources, index=index, rules=project.rules(), emit=emit)
        index.flush()
    finally:
        index.close()
    edited = [path for path in sorted(sources) if now[path] not in (None, tracked.pointers[path][1].content)]
    recorded = [item.path for item in add(project, edited, emit=emit).items if item.state != "unchanged"] if edited else []
    for path in recorded:
        emit(Noted(f"recorded {display(path)}, which was edited"))
    return bool(recorded)


def _turns(
    shop: Workshop,
    tracked: Tracked,
    graph: Graph,
    chosen: Sequence[Stage],
    touched: list[Stage],
    *,
    force: bool,
    keep_going: bool,
) -> list[StageRun]:
    lock: dict[str, LockEntry] = dict(tracked.lock)
    runs: list[StageRun] = []
    blocked: set[str] = set()
    for stage in chosen:
        if blocked.intersection(graph.upstream[stage.address]):
            blocked.add(stage.address)
            runs.append(StageRun(stage.address, "skipped", (), 0.0, "a stage it needs failed"))
            continue
        try:
            turn = _turn(shop, stage, Tracked(tracked.pointers, tracked.stages, lock), lock, touched, force=force)
        except DvcxError as error:
            shop.emit(StageEnded(stage.address, "failed"))
            runs.append(StageRun(stage.address, "failed", (), 0.0, f"{error.message}\n{error.hint}".strip()))
            if not keep_going:
                return runs
            blocked.add(stage.address)
            continue
        shop.emit(StageEnded(stage.address, turn.how, turn.seconds))
        runs.append(turn)
    return runs


def _turn(
    shop: Workshop, stage: Stage, tracked: Tracked, lock: dict[str, LockEntry], touched: list[Stage], *, force: bool
) -> StageRun:
    parts = Parts(shop.project, tracked, shop.index, shop.emit)
    try:
        now = snapshot(shop.project, [stage], lock, index=shop.index, rules=shop.rules, emit=shop.emit, parts=parts)
    finally:
        parts.close()
    reasons = judge(stage, lock.get(stage.address), now)
    words = tuple(reason.text for reason in reasons)
    if not reasons and not force:
        return StageRun(stage.address, "unchanged", (), 0.0)
    touched.append(stage)
    began = time.monotonic()
    if not force:
        entry = restore(shop, stage, now, lock.get(stage.address), reasons)
        if entry is not None:
            lock[stage.address] = entry
            return StageRun(stage.address, "restored", words, time.monotonic() - began)
    entry, seconds = run(shop, stage, now, reasons)
    lock[stage.address] = entry
    return StageRun(stage.address, "ran", words or ("--force",), seconds)


def _note(project: Project, touched: Sequence[Stage], runs: Sequence[StageRun]) -> None:
    """Remember the outputs that were made or restored."""
    done = {turn.stage for turn in runs if turn.how in ("ran", "restored")}
    # Only a memory: whoever holds the project now may have it.
    with contextlib.suppress(Busy), project.lock("dvcx repro", ignore):
        tracked = records.load(project)
        entries = [tracked.lock[stage.address] for stage in touched if stage.address in done and stage.address in tracked.lock]
        marks = {path: mark_of(content) for entry in entries for path, content in entry.outs.items()}
        placed.note(project, tracked, marks)


def _forecast(
    project: Project, targets: Sequence[str], *, force: bool, single_item: bool, downstream: bool, emit: Emit
) -> Reproduced:
    tracked = records.load(project)
    graph = build(tracked.stages, tracked.pointers)
    chosen = order(graph, targets, downstream=downstream, single=single_item)
    index = project.stat_index(emit)
    parts = Parts(project, tracked, index, emit)
    known = KnownResults(project, emit)
    try:
        now: Snapshot = snapshot(project, chosen, tracked.lock, index=index, rules=project.rules(), emit=emit, parts=parts)
        verdicts = forecast(chosen, tracked.lock, now, graph.upstream, known)
        index.flush()
    finally:
        known.close()
        parts.close()
        index.close()
    runs = []
    for verdict in verdicts:
        reasons = tuple(reason.text for reason in verdict.reasons) or (("--force",) if force else ())
        runs.append(StageRun(verdict.stage.address, WOULD_RUN if force else verdict.plan, reasons, 0.0))
    return Reproduced(tuple(runs), 0)
