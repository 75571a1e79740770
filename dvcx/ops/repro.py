"""repro: run what is stale, in order, and nothing else."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from dvcx.core.objects import Content
from dvcx.core.partial import Mark
from dvcx.core.paths import contains, parent, several
from dvcx.core.pipeline.graph import Graph, order
from dvcx.core.pipeline.maps import first_part, meant, reached, unseen
from dvcx.core.pipeline.schema import Stage
from dvcx.core.records import LockEntry
from dvcx.core.scheduling import Capacity, Granted, Queue
from dvcx.core.staleness import (
    ALWAYS,
    NOT_WANTED,
    UNCHANGED,
    WOULD_RESTORE,
    WOULD_RUN,
    Reason,
    Snapshot,
    Verdict,
    forecast,
    judge,
    not_wanted,
    read_files,
)
from dvcx.errors import Busy, Conflict, DvcxError, RemoteFailed, StageFailed, display
from dvcx.events import Emit, Event, Noted, StageEnded, ignore
from dvcx.io import git, machine
from dvcx.io import runs as run_records
from dvcx.io.runners.local import Leash
from dvcx.ops import placed, records
from dvcx.ops.actions import Results
from dvcx.ops.add import add
from dvcx.ops.crew import Crew, Turn
from dvcx.ops.inputs import names_matching
from dvcx.ops.known import KnownResults
from dvcx.ops.ledger import Ledger
from dvcx.ops.looking import observe
from dvcx.ops.placed import Parts, mark_of
from dvcx.ops.pulling import Pulling, asked_for, lacking
from dvcx.ops.records import Tracked
from dvcx.ops.running import (
    MARK,
    Floor,
    Interrupted,
    Stopped,
    Workshop,
    alone_with,
    current_entry,
    facts_of,
    fold,
    is_there,
    put,
    recover,
    restore,
    run,
    staged_records,
)
from dvcx.ops.runs import LOOKED_AT, recalled
from dvcx.ops.snapshot import LONG, snapshot
from dvcx.project import command_environment

if TYPE_CHECKING:
    from dvcx.io.runners.protocol import Runner
    from dvcx.ops.errands import Errands
    from dvcx.project import Project


SYNC_EVERY = 0.5
"""Seconds: what power loss may take of what is noted."""
FOLD_SHARE = 10
"""dvcx.lock lags behind its journal for so many times the seconds that writing it takes, and at least for SYNC_EVERY."""
MANY = 64
"""So many stages may be at a runner at a time, where the user names no number: it is the runner that shares out its machines."""
KNOWN = "known"
"""How the turn of a stage ends whose result is known, and whose outputs stay where they are."""


@dataclass(frozen=True, slots=True)
class StageRun:
    """A stage's turn. `how`: unchanged, restored, known (its outputs stay on the remote), ran, failed or skipped; in a dry run
    unchanged, would restore, known, would run or might run. `reasons` in words, `seconds` of wall time, `error` with its hint.

    `remote` is where known outputs come from, "" for the cache; `fetched` is what it reads that comes from a remote.
    """

    stage: str
    how: str
    reasons: tuple[str, ...]
    seconds: float
    error: str = ""
    remote: str = ""
    fetched: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Reproduced:
    """Every stage looked at, in order; `failed` counts those that failed or were skipped because of one.

    `code` is the exit code this calls for: 10 when a stage failed, 6 when nothing did but a remote.
    """

    runs: tuple[StageRun, ...]
    failed: int
    code: int = 0


def repro(
    project: Project,
    targets: Sequence[str] = (),
    *,
    dry_run: bool = False,
    force: bool = False,
    single_item: bool = False,
    downstream: bool = False,
    keep_going: bool = False,
    jobs: int = 0,
    pull: bool = False,
    interactive: bool = False,
    runner: Runner | str = "",
    emit: Emit = ignore,
) -> Reproduced:
    """Judge each stage when its turn comes and run the stale ones, up to `jobs` side by side (0: one for each core).

    `pull` brings what is needed from the remotes: the outputs asked for, and what a command that has to run reads; the outputs
    of other stages stay away where their content is known. `force` runs fresh ones too. A stage's failure lets those that run
    finish and starts no more, unless `keep_going`; it is in the result, and so is that of a remote when it was asked to `pull`.
    `interactive` runs one stage at a time and gives its command this process's terminal, if it is in the foreground of one.
    `runner` runs stages elsewhere: one that speaks the protocol, or the name of one ("" is that of the settings, "here" none).
    `emit` is called from several threads, one at a time. Raises what records and the workspace raise, `Busy` when it should
    not wait; a dry run with `pull` also `RemoteFailed`.
    """
    targets = several(targets)
    if dry_run:
        return _forecast(project, targets, force=force, single_item=single_item, downstream=downstream, pull=pull, emit=emit)
    environment = command_environment()
    if environment.get(MARK) and environment.get("DVCX_PROJECT") == project.root:
        raise Conflict(
            f"stage '{display(environment[MARK])}' runs 'dvcx repro' in its own project: it would wait for itself",
            "let dvcx.yaml say what depends on what instead",
        )
    environment["DVCX_PROJECT"] = project.root
    emit = one_at_a_time(emit)
    runs: dict[str, StageRun] = {}
    codes: set[int] = set()
    away: dict[str, int] = {}
    with contextlib.ExitStack() as held:
        errands = None if interactive else _errands(project, runner, force=force, emit=emit)
        if errands is not None:
            held.callback(errands.close)
        while True:
            plan = _plan(project, targets, runs, emit, downstream=downstream, single_item=single_item, whole=pull)
            work = _Repro(project, plan.tracked, environment, emit, force=force, keep_going=keep_going)
            with contextlib.closing(Results(project, keys=len(plan.now), patient=pull, emit=emit)) as results:
                work.use(results, Pulling(plan.tracked, plan.graph, plan.now, targets, results) if pull else None, errands)
                work.work(plan.graph, plan.now, 1 if interactive else jobs, interactive=interactive)
            runs.update(work.runs)
            away.update(work.away)
            codes |= work.codes
            failed = sum(run.how in ("failed", "skipped") for run in runs.values())
            if plan.last or (failed and not keep_going):
                break
    _tell_unseen(project, plan, emit)
    _tell_away(plan, away, emit)
    ordered = [runs.pop(stage.address) for stage in plan.chosen if stage.address in runs]
    code = RemoteFailed.exit_code if codes == {RemoteFailed.exit_code} else StageFailed.exit_code
    return Reproduced((*runs.values(), *ordered), failed, code if failed else 0)


class _Plan(NamedTuple):
    """What is to be reproduced, as far as it is known: `now` is what can have its turn, and whether that is the `last` of it."""

    tracked: Tracked
    graph: Graph
    chosen: tuple[Stage, ...]
    now: tuple[Stage, ...]
    last: bool


def _plan(
    project: Project,
    targets: Sequence[str],
    runs: dict[str, StageRun],
    emit: Emit,
    *,
    downstream: bool,
    single_item: bool,
    whole: bool,
) -> _Plan:
    """What to do after these `runs`. What needs a stage that failed is skipped. Unless it is taken as a `whole`, stages that
    write files for which there is a stage each have their turn before the rest is known.
    """
    tracked = records.load(project)
    graph = tracked.graph
    maps = {} if whole else records.maps_of(tracked.pipelines)
    asked = meant(graph, targets, maps, runs)
    chosen = order(graph, asked, downstream=downstream, single=single_item)
    bad = {name for name, run in runs.items() if run.how in ("failed", "skipped") and name in graph.stages}
    for name in reached(bad, graph.downstream) - runs.keys() if bad else ():
        runs[name] = StageRun(name, "skipped", (), 0.0, "a stage it needs failed")
    left = tuple(stage for stage in chosen if stage.address not in runs)
    now = first_part(graph, left, maps) if maps else left
    if _record_sources(project, tracked, graph, now, emit):
        tracked = records.load(project)
    return _Plan(tracked, graph, chosen, now, len(now) == len(left) and asked == list(targets))


def _tell_unseen(project: Project, plan: _Plan, emit: Emit) -> None:
    """Files that commands wrote beside their outputs have no stage yet."""
    for name, pattern in records.maps_of(plan.tracked.pipelines).items():
        new = unseen(plan.graph, name, pattern, names_matching(project, pattern))
        if new:
            what = "a file" if len(new) == 1 else f"{len(new):,} files"
            emit(Noted(f"{display(name)}: {what} came up meanwhile ({display(new[0])}): run dvcx repro again"))


def _tell_away(plan: _Plan, away: Mapping[str, int], emit: Emit) -> None:
    """What was asked for and is up to date need not be here."""
    last = asked_for(plan.graph, plan.chosen, ()) if away else set()
    count = sum(number for address, number in away.items() if address in last)
    if count:
        what = "an output is not all here, as it was" if count == 1 else f"{count:,} outputs are not all here, as they were"
        emit(Noted(f"{what} never pulled: dvcx pull, or dvcx repro --pull"))


def _errands(project: Project, runner: Runner | str, *, force: bool, emit: Emit) -> Errands | None:
    """What has stages run elsewhere; None when they run here."""
    if (runner or project.config.get("core.runner")) == "here":
        return None
    # Only who has a runner pays for what talks to it.
    from dvcx.ops.errands import Errands, runner_named

    found = runner_named(project, runner) if isinstance(runner, str) else runner
    return Errands(project, found, force=force, emit=emit) if found is not None else None


class _Repro:
    """One `repro` while it runs: what its threads share, and what came of each stage."""

    def __init__(
        self, project: Project, tracked: Tracked, environment: Mapping[str, str], emit: Emit, *, force: bool, keep_going: bool
    ) -> None:
        self._project, self._tracked, self._environment, self._emit = project, tracked, environment, emit
        self._force, self._keep_going = force, keep_going
        self._rules = project.rules()
        self._lock = dict(tracked.lock)
        self.runs: dict[str, StageRun] = {}
        """What came of each stage so far."""
        self.away: dict[str, int] = {}
        """How many outputs of a stage count as recorded without being here."""
        self._touched: list[Stage] = []
        self._busy: Busy | None = None
        self.codes: set[int] = set()
        self._fetched: dict[str, list[str]] = {}
        self._interrupted = False
        self._placed: dict[str, Mark] = {}
        self._sync_at = self._fold_at = time.monotonic() + SYNC_EVERY
        self._index = project.stat_index(emit, shared=True)
        self._floor = Floor(Ledger(project), Leash(), facts_of(project, environment), Capacity(1))
        self._crew: Crew
        self._graph: Graph

    def use(self, results: Results, pulling: Pulling | None, errands: Errands | None) -> None:
        """Ask these remotes; with `pulling` leave away what need not be here; with `errands` have stages run elsewhere."""
        self._floor.remotes, self._floor.pulling, self._floor.errands = results, pulling, errands

    def work(self, graph: Graph, chosen: Sequence[Stage], jobs: int, *, interactive: bool) -> None:
        """Give every stage its turn; `runs` tells what came of it."""
        self._graph = graph
        errands = self._floor.errands
        jobs = max(1, min(jobs or (machine.cores() if errands is None else MANY), len(chosen)))
        self._floor.several = jobs > 1
        if interactive:
            from dvcx.io.runners.terminal import find_terminal

            self._floor.terminal = find_terminal()
        self._floor.capacity = _capacity(self._project, self._environment, jobs)
        # What a runner shares out is the runner's; tokens and mutexes are this project's.
        queue = Queue(chosen, graph.upstream, self._floor.capacity, here=errands is None)
        self._crew = Crew(
            queue,
            jobs=jobs,
            hire=self._hire,
            failed=self._failed,
            tick=self._tick,
            leash=self._floor.leash,
            stopping=self._floor.stopping,
            emit=self._emit,
            told=self._floor.terminal is None,
        )
        try:
            if chosen:
                self._begin(chosen)
                self._crew.work()
        finally:
            self._index.flush()
            self._index.close()
            if self._floor.ledger.unfolded:
                fold(self._project, self._floor, self._emit)
            if self._touched and is_there(self._project):
                records.autostage(self._project, staged_records(self._touched))
        if (self._touched or self._placed) and is_there(self._project):
            _note(self._project, self._touched, list(self.runs.values()), self._placed)
            run_records.prune(self._project.state_dir)
        if self._interrupted:
            raise KeyboardInterrupt
        if self._busy is not None:
            raise self._busy

    def _begin(self, chosen: Sequence[Stage]) -> None:
        """What killed runs left is put back or finished first."""
        with self._floor.lock, self._project.lock("dvcx repro", self._emit):
            recover(self._project, chosen, self._emit)
            self._floor.fresh += self._floor.ledger.find(self._tracked.stages)
        self._project.cache(self._emit, write=True).close()

    @contextlib.contextmanager
    def _hire(self) -> Iterator[Turn]:
        """The tools of one thread."""
        cache = self._project.cache(self._emit)
        shop = Workshop(self._project, cache, self._index, self._rules, self._environment, self._emit, self._floor)
        try:
            yield lambda granted: self._turn(shop, granted)
        finally:
            cache.close()

    def _tick(self) -> None:
        """Now and then what is noted becomes durable, and part of dvcx.lock for others to read."""
        now = time.monotonic()
        if not self._floor.ledger.unfolded or now < self._sync_at:
            return
        if now >= self._fold_at:
            fold(self._project, self._floor, self._emit)
            self._fold_at = (done := time.monotonic()) + FOLD_SHARE * (done - now)
        else:
            self._floor.ledger.sync()
        self._sync_at = time.monotonic() + SYNC_EVERY

    def _turn(self, shop: Workshop, granted: Granted) -> str | None:
        """One stage's turn; None when it has to wait for what it needs."""
        stage = granted.stage
        if granted.runs:
            turn = self._act(shop, stage, None)
        else:
            seen = self._look(shop, stage)
            condition = seen.now.unwanted.get(stage.address)
            if condition is not None:
                turn = StageRun(stage.address, NOT_WANTED, (not_wanted(stage, condition).text,), 0.0)
            elif not seen.reasons and not self._force:
                turn = StageRun(stage.address, "unchanged", (), 0.0)
                left = [out.path for out in stage.outs if out.path in seen.now.not_pulled]
                self.away.update({stage.address: len(left)} if left else {})
            elif not self._crew.claim(stage.address):
                return None
            else:
                turn = self._act(shop, stage, seen)
        fetched = self._fetched.get(stage.address)
        self.runs[stage.address] = turn = replace(turn, fetched=tuple(fetched)) if fetched else turn
        self._emit(StageEnded(stage.address, turn.how, turn.seconds))
        return turn.how

    def _look(self, shop: Workshop, stage: Stage) -> _Seen:
        self._ignore_inside(shop, stage)
        locked = self._lock.get(stage.address)
        now = self._snapshot(shop, stage, locked)
        pulling = shop.floor.pulling
        if pulling is not None:
            pulling.learn(stage, shop.cache)
            seen, missing = pulling.overlaid(stage, locked, now, shop.cache)
            if missing:
                self._bring(shop, stage, missing)
                seen, _ = pulling.overlaid(stage, locked, self._snapshot(shop, stage, locked), shop.cache)
            now = seen
        reasons = judge(stage, locked, now)
        if pulling is not None and not reasons and locked is not None and not pulling.wants(stage):
            gone = {path: content for path, content in locked.outs.items() if not os.path.lexists(f"{shop.project.root}/{path}")}
            pulling.leave_away(gone)
        return _Seen(now, locked, reasons)

    def _ignore_inside(self, shop: Workshop, stage: Stage) -> None:
        """Have git ignore the outputs in a directory that the stage reads: their .gitignore is in there, and counts as read."""
        needs = [self._graph.stages[address] for address in self._graph.upstream[stage.address]]
        outs, deps = [out.path for need in needs for out in need.outs if out.cache], frozenset(stage.deps)
        inside = [path for path in outs if _is_inside(path, deps)]
        if inside and self._project.git is not None:
            with shop.holding(stage):
                git.ignore_all(self._project.root, inside)

    def _snapshot(self, shop: Workshop, stage: Stage, locked: LockEntry | None) -> Snapshot:
        parts = Parts(shop.project, self._tracked._replace(lock=self._lock), shop.index, shop.emit)
        try:
            entries = {} if locked is None else {stage.address: locked}
            asked = shop.floor.asked
            now = snapshot(
                shop.project,
                [stage],
                entries,
                index=shop.index,
                rules=shop.rules,
                emit=shop.emit,
                parts=parts,
                present=shop.floor.pulling is not None,
                patience=LONG,
                asked=asked,
            )
            for error in () if stage.frozen else now.unasked.values():
                raise error
            asked.update({address: told for address, told in now.external.items() if "://" in address})
            return now
        finally:
            parts.close()

    def _ready(self, shop: Workshop, stage: Stage, seen: _Seen) -> _Seen:
        """A stage that has to run, with all it reads in its place."""
        pulling = shop.floor.pulling
        reads = pulling.reads(stage, seen.now, self._tracked.contents()) if pulling is not None else self._left(stage, seen.now)
        if not reads:
            return seen
        self._bring(shop, stage, reads)
        return self._look(shop, stage)

    def _left(self, stage: Stage, now: Snapshot) -> dict[str, Content]:
        """Outputs of other stages that a stage reads, and that count as recorded without being here."""
        paths = [path for path in read_files(stage, now) if path in now.not_pulled]
        owners = self._graph.owners if paths else {}
        return {
            out: self._lock[name].outs[out]
            for out, name in owners.items()
            if any(contains(out, path) for path in paths) and not os.path.lexists(f"{self._project.root}/{out}")
        }

    def _bring(self, shop: Workshop, stage: Stage, contents: Mapping[str, Content]) -> None:
        """Place what a stage reads, from the cache or a remote."""
        remotes, pulling = shop.floor.remotes, shop.floor.pulling
        assert remotes is not None
        for path, content in contents.items():
            remote = remotes.bring({path: content}, shop.cache)
            if remote is None and pulling is None:
                # Who did not ask to pull is told what to pull.
                return
            if remote is None or not put(shop, stage, {path: content}, None):
                raise lacking(stage, path)
            if remote:
                self._fetched.setdefault(stage.address, []).append(path)
            with self._floor.lock:
                self._placed[path] = mark_of(content)
        if pulling is not None:
            pulling.is_here(contents)

    def _act(self, shop: Workshop, stage: Stage, seen: _Seen | None) -> StageRun:
        """Restore or run a stage, which nobody else in the project does meanwhile."""
        began = time.time()
        with alone_with(shop, stage) as waited:
            entry = current_entry(shop, stage)
            if entry != self._lock.get(stage.address) or waited.at_all or seen is None:
                # Somebody else may have run it by now; then there is nothing to do.
                if entry is not None:
                    self._lock[stage.address] = entry
                seen = self._look(shop, stage)
                if seen.fresh(force=self._force and not waited.same) or (waited.same and _ran_since(shop, stage, began, seen)):
                    return StageRun(stage.address, "unchanged", (), 0.0)
            words = tuple(reason.text for reason in seen.reasons)
            self._touched.append(stage)
            started = time.monotonic()
            restored = None if self._force else restore(shop, stage, seen.now, seen.locked, seen.reasons)
            if restored is not None:
                self._lock[stage.address] = restored.entry
                how = KNOWN if restored.away else "restored"
                return StageRun(stage.address, how, words, time.monotonic() - started, remote=restored.remote)
            seen = self._ready(shop, stage, seen)
            errands = shop.floor.errands
            away = errands is not None and errands.takes(stage)
            entry, seconds = (errands.run if away and errands is not None else run)(shop, stage, seen.now, seen.reasons)
            self._lock[stage.address] = entry
            return StageRun(stage.address, "ran", words or ("--force",), seconds)

    def _failed(self, stage: Stage, error: DvcxError, blocked: tuple[Stage, ...]) -> bool:
        if isinstance(error, Busy):
            # Not the stage's failure: somebody else has what it needs, and this command does not wait any longer.
            self._busy = self._busy or error
            return False
        self._interrupted |= isinstance(error, Interrupted)
        if not isinstance(error, Stopped):
            self.codes.add(error.exit_code)
            self._emit(StageEnded(stage.address, "failed"))
            self.runs[stage.address] = StageRun(stage.address, "failed", (), 0.0, f"{error.message}\n{error.hint}".strip())
        if self._keep_going:
            for other in blocked:
                self.runs[other.address] = StageRun(other.address, "skipped", (), 0.0, "a stage it needs failed")
        return self._keep_going and not isinstance(error, Stopped)


def _is_inside(path: str, directories: frozenset[str]) -> bool:
    while path := parent(path):
        if path in directories:
            return True
    return False


class _Seen(NamedTuple):
    """What a stage was judged by, and why it is stale."""

    now: Snapshot
    locked: LockEntry | None
    reasons: tuple[Reason, ...]

    def fresh(self, *, force: bool) -> bool:
        """Whether there is nothing to do."""
        return not self.reasons and not force


def _ran_since(shop: Workshop, stage: Stage, moment: float, seen: _Seen) -> bool:
    """Whether a stage that would always run was run by another `repro` while we waited for it: once is enough."""
    if any(reason.kind != ALWAYS for reason in seen.reasons):
        return False
    for name in run_records.names(shop.project.state_dir)[:LOOKED_AT]:
        found = run_records.read(shop.project.state_dir, name)
        if found is not None and found.stage == stage.address and found.state == run_records.RAN:
            return found.began + found.wall >= moment
    return False


def _capacity(project: Project, environment: Mapping[str, str], jobs: int) -> Capacity:
    """What there is to share out: the machine, and what the settings say."""
    config = project.config
    prefix = "resources."
    said = {key[len(prefix) :]: float(value) for key, value in config.values.items() if key.startswith(prefix)}
    gpu = said.pop("gpu", None)
    mem = said.pop("mem", None)
    return Capacity(
        jobs,
        machine.memory() if mem is None else int(mem) << 20,
        float(machine.gpus(environment)) if gpu is None else gpu,
        said,
    )


def one_at_a_time(emit: Emit) -> Emit:
    """The same listener for several threads."""
    held = threading.RLock()

    def tell(event: Event) -> None:
        with held:
            emit(event)

    return tell


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


def _note(project: Project, touched: Sequence[Stage], runs: Sequence[StageRun], marks: Mapping[str, Mark]) -> None:
    """Remember the outputs that were made or restored, and what else was placed."""
    done = {turn.stage for turn in runs if turn.how in ("ran", "restored")}
    # Only a memory: whoever holds the project now may have it.
    with contextlib.suppress(Busy), project.lock("dvcx repro", ignore):
        tracked = records.load(project)
        entries = [tracked.lock[stage.address] for stage in touched if stage.address in done and stage.address in tracked.lock]
        made = {path: mark_of(content) for entry in entries for path, content in entry.outs.items()}
        placed.note(project, tracked, {**marks, **made})


def _forecast(
    project: Project, targets: Sequence[str], *, force: bool, single_item: bool, downstream: bool, pull: bool, emit: Emit
) -> Reproduced:
    tracked = records.load(project)
    graph = tracked.graph
    chosen = order(graph, targets, downstream=downstream, single=single_item)
    index = project.stat_index(emit)
    remotes = Results(project, keys=len(chosen), patient=pull, emit=emit)
    known = KnownResults(project, emit, remotes)
    pulling = Pulling(tracked, graph, chosen, targets, remotes) if pull else None
    parts = Parts(project, tracked, index, emit, listings=remotes.trees(known.cache()) if pull else None)
    try:
        now: Snapshot = snapshot(
            project, chosen, tracked.lock, index=index, rules=project.rules(), emit=emit, parts=parts, present=pull
        )
        if pulling is not None:
            now = pulling.foresee(chosen, tracked.lock, now, known.cache(), known.values)
        verdicts = forecast(chosen, tracked.lock, now, graph.upstream, None if force else known, known.inside, known.values)
        index.flush()
        runs = []
        for verdict in recalled(project, verdicts):
            turn = _foretold(verdict, force=force)
            if pulling is not None:
                turn = _pulled(project, tracked, pulling, verdict, turn, now, known)
            runs.append(turn)
    finally:
        known.close()
        parts.close()
        index.close()
    return Reproduced(tuple(runs), 0)


def _foretold(verdict: Verdict, *, force: bool) -> StageRun:
    """What a verdict says of a stage's turn."""
    reasons = tuple(reason.text for reason in verdict.reasons) or (("--force",) if force else ())
    how = WOULD_RUN if force and verdict.plan != NOT_WANTED else verdict.plan
    return StageRun(verdict.stage.address, how, reasons, 0.0, remote=verdict.remote)


def _pulled(
    project: Project,
    tracked: Tracked,
    pulling: Pulling,
    verdict: Verdict,
    turn: StageRun,
    now: Snapshot,
    known: KnownResults,
) -> StageRun:
    """The turn with what `--pull` adds: what stays away, and what is fetched. To be asked in the order of the run."""
    stage = verdict.stage
    entry = tracked.lock.get(stage.address)
    _, fetches = pulling.overlaid(stage, entry, now, known.cache())
    if turn.how == WOULD_RUN:
        fetches.update(pulling.reads(stage, now, tracked.contents()))
        pulling.is_here(out.path for out in stage.outs)
    elif turn.how == WOULD_RESTORE and verdict.outs is not None:
        absent = not any(os.path.lexists(f"{project.root}/{path}") for path in verdict.outs)
        if absent and not pulling.wants(stage):
            turn = replace(turn, how=KNOWN)
            pulling.leave_away(verdict.outs)
        else:
            pulling.is_here(verdict.outs)
    elif turn.how == UNCHANGED and entry is not None and not pulling.wants(stage):
        pulling.leave_away(
            {path: content for path, content in entry.outs.items() if not os.path.lexists(f"{project.root}/{path}")}
        )
    fetched: list[str] = []
    for path, content in fetches.items():
        remote = pulling.results.where({path: content}, known.cache())
        if remote is None:
            return replace(turn, fetched=tuple(fetched), error=lacking(stage, path).message)
        fetched += [path] if remote else []
    pulling.is_here(fetches)
    return replace(turn, fetched=tuple(fetched))
