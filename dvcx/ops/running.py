"""One stage's turn: restore a known result, or run the command; record what it read and wrote, or put everything back."""

from __future__ import annotations

import contextlib
import json
import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dvcx.core.changes import as_entry, files_below
from dvcx.core.objects import TREE, Content, Entry
from dvcx.core.packing import SMALL
from dvcx.core.paths import join, parent
from dvcx.core.pipeline.dependencies import externals
from dvcx.core.pipeline.params import same, select
from dvcx.core.pipeline.schema import Stage
from dvcx.core.plans import Placement, plan_placement
from dvcx.core.records import Action, LockEntry, is_record, lines_of
from dvcx.core.scheduling import Capacity
from dvcx.core.staleness import Reason, Snapshot, action_key, lock_entry, read_files
from dvcx.errors import Busy, DvcxError, IntegrityError, NotFound, StageFailed, UnsafeInput, display
from dvcx.events import Emit, Noted, StageBegan
from dvcx.io import git, lock, machine, place, processes, runs, shares
from dvcx.io.files import atomic_write, open_parent, private_directory
from dvcx.io.hashing import seal
from dvcx.io.interpreter import Fingerprints, Interpreter
from dvcx.io.runners.local import STOPPED, Leash, Outcome, end_group, run_commands
from dvcx.io.statindex import StatIndex
from dvcx.io.store.intake import Intake
from dvcx.io.store.store import Store, wanted
from dvcx.io.workspace import Rules, look
from dvcx.ops import actions, records
from dvcx.ops.known import known_result, only_outputs
from dvcx.ops.ledger import Ledger
from dvcx.ops.listening import Listener
from dvcx.ops.looking import observe, stored_trees, workspace_trees
from dvcx.ops.placing import ASIDE, carry_out, find_strangers, keep, unsaved
from dvcx.ops.snapshot import LONG, read_params
from dvcx.ops.transfer import holds

if TYPE_CHECKING:
    from dvcx.io.runners.terminal import Terminal
    from dvcx.ops.actions import Results
    from dvcx.ops.errands import Errands
    from dvcx.ops.pulling import Pulling
    from dvcx.project import Project

MARK = "DVCX_STAGE"
GROUP = ".group"
KEPT_FAILED = 10
"""So many failed attempts' outputs are kept for a look."""
WAIT = 0.05
"""Seconds between two tries to take a lock that another process's command holds."""
_TAKE_AGAIN = 3


@dataclass(slots=True)
class Floor:
    """What the threads of one `repro` share. `lock` guards the workspace and the records among them, before the project's lock.

    `capacity` is what there is to share out, `several` tells whether stages may run side by side; if not, commands may have the
    `terminal`. `fresh` are the stages whose outputs' ignore lines are still to be written, `results` what the cache is to know of
    actions. `remotes` are asked for results, `pulling` says what need not be here, `errands` has stages run elsewhere. `facts`
    tells what run records say of the machine and the command. `asked` is what urls were when they were first asked in this run.
    """

    ledger: Ledger
    leash: Leash
    facts: Callable[[Sequence[str], str], runs.Facts]
    capacity: Capacity
    several: bool = False
    terminal: Terminal | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)
    fresh: list[Stage] = field(default_factory=list)
    results: list[Action] = field(default_factory=list)
    remotes: Results | None = None
    pulling: Pulling | None = None
    errands: Errands | None = None
    reaped: bool = False
    asked: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every stage's turn needs; one for each thread, all with the same `floor`. `environment` is what commands see."""

    project: Project
    cache: Store
    index: StatIndex
    rules: Rules
    environment: Mapping[str, str]
    emit: Emit
    floor: Floor

    @contextlib.contextmanager
    def holding(self, stage: Stage) -> Iterator[None]:
        """Hold the workspace and the records, against other threads and other processes. Never while a command runs."""
        with self.floor.lock, self.project.lock(f"dvcx repro ({stage.address})", self.emit):
            yield


class Stopped(StageFailed):
    """The stage was ended because the user wants everything to end."""


class Interrupted(Stopped):
    """The command had the terminal, and the Ctrl-C that is meant for all."""


class Done(NamedTuple):
    """What a command left: the lock entry to be recorded, and seconds of wall time."""

    entry: LockEntry
    seconds: float


class Waited(NamedTuple):
    """Whether somebody else had the stage first, and whether there was any wait, also for what it shares with others."""

    same: bool
    at_all: bool


@contextlib.contextmanager
def alone_with(shop: Workshop, stage: Stage) -> Iterator[Waited]:
    """Hold a stage, its mutexes and its share of the rest against every other `repro` in the project.

    Raises `Stopped` when everything is to end while it waits, `Busy` when nobody wants to wait. What a killed `repro` left of
    the stage is ended and put back.
    """
    path = stage_file(shop.project, stage.address)
    with contextlib.ExitStack() as held:
        same = at_all = _take(shop, stage, path, held)
        for name in sorted(stage.execution.mutex):
            at_all |= _take(shop, stage, f"{shop.project.state_dir}/stages/mutex-{_short(name)}", held)
        at_all |= _take_share(shop, stage, held)
        if shop.floor.stopping.is_set():
            raise Stopped(f"stage '{display(stage.address)}' was not started", "run dvcx repro again")
        _end_orphan(f"{path}{GROUP}")
        aside = aside_of(shop.project, stage.address)
        if os.path.lexists(aside):
            with shop.holding(stage):
                bring_back(shop.project, aside, shop.emit)
        yield Waited(same, at_all)


def _take(shop: Workshop, stage: Stage, path: str, held: contextlib.ExitStack) -> bool:
    """Take a lock that a command of another process may hold for days; whether it was held."""
    waited = False
    command = f"dvcx repro ({stage.address})"
    while True:
        try:
            held.enter_context(lock.hold(path, command=command, timeout=0))
            return waited
        except lock.NoLocks:
            raise
        except Busy:
            if not shop.project.config.get("core.lock_timeout"):
                raise
            if not waited:
                shop.emit(Noted(f"{display(stage.address)}: waiting for {lock.holder(path)}"))
            waited = True
        if shop.floor.stopping.wait(WAIT):
            raise Stopped(f"stage '{display(stage.address)}' was not started", "run dvcx repro again")


def _take_share(shop: Workshop, stage: Stage, held: contextlib.ExitStack) -> bool:
    """Take memory, devices and tokens that all commands of the project share, as far as the stage names them; whether that
    had to wait.
    """
    needs, there = stage.execution, shop.floor.capacity
    devices = f"gpu {shop.environment.get('CUDA_VISIBLE_DEVICES', '')}"
    wants = {"mem": float(needs.mem), devices: needs.gpu, **{f"token {name}": amount for name, amount in needs.tokens}}
    if shop.floor.errands is not None and shop.floor.errands.takes(stage):
        # What a runner shares out is the runner's.
        wants["mem"] = wants[devices] = 0.0
    wants = {name: amount for name, amount in wants.items() if amount}
    if wants or needs.mutex:
        end_orphans(shop.project)
    if not wants:
        return False
    amounts = {"mem": float(there.mem or math.inf), devices: there.gpu}
    amounts.update({f"token {name}": amount for name, amount in there.tokens.items()})
    directory = f"{shop.project.state_dir}/stages/shares"
    ticket = held.enter_context(shares.take(directory, shares.Share(wants, amounts), f"dvcx repro ({stage.address})"))
    told = False
    while not ticket.may_go():
        if not shop.project.config.get("core.lock_timeout"):
            raise Busy(
                f"stage '{display(stage.address)}': what it needs is in use by another dvcx repro",
                "wait for that to finish and run the command again",
            )
        if not told:
            shop.emit(Noted(f"{display(stage.address)}: waiting for what it needs, which another dvcx repro uses"))
        told = True
        if shop.floor.stopping.wait(WAIT):
            raise Stopped(f"stage '{display(stage.address)}' was not started", "run dvcx repro again")
    return told


def end_orphans(project: Project) -> None:
    """End every command that outlived a killed dvcx: it may hold what other stages now take."""
    directory = f"{project.state_dir}/stages"
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir(directory):
            guard, mark, _ = name.partition(GROUP)
            if mark:
                with contextlib.suppress(Busy), lock.hold(f"{directory}/{guard}", command="dvcx repro", timeout=0):
                    _end_orphan(f"{directory}/{name}")


def _end_orphan(note: str) -> None:
    """End the command noted here, which must not write beside the next one. Linux tells whether it is still ours."""
    try:
        with open(note, encoding="utf-8", errors="surrogateescape") as file:
            group, address = file.read().split("\n")[:2]
        if processes.belongs(int(group), f"{MARK}={address}"):
            end_group(int(group))
    except FileNotFoundError:
        return
    except (OSError, ValueError):
        pass
    with contextlib.suppress(OSError):
        os.unlink(note)


def current_entry(shop: Workshop, stage: Stage) -> LockEntry | None:
    """What the lock says of a stage by now, whoever wrote it."""
    ledger = shop.floor.ledger
    with shop.floor.lock:
        if ledger.is_current(stage):
            return ledger.entry(stage)
    with shop.holding(stage):
        return ledger.entry(stage)


def facts_of(project: Project, environment: Mapping[str, str]) -> Callable[[Sequence[str], str], runs.Facts]:
    """Tells what run records say besides the run itself: host, commit, interpreter. Looked up when the first stage runs."""
    fingerprints = Fingerprints(environment)
    held = threading.Lock()
    commit: list[str] = []

    def facts(commands: Sequence[str], directory: str) -> runs.Facts:
        with held:
            if not commit:
                commit.append(_commit(project))
            found = [fingerprints.of(line, directory) for line in commands]
        at = next((at for at in found if at.path), Interpreter())
        return runs.Facts(machine.host(), commit[0], at.path, at.version, at.packages)

    return facts


def _commit(project: Project) -> str:
    """The commit that is checked out; "" without one."""
    if project.git is None:
        return ""
    try:
        return git.resolve(project.git, "HEAD")
    except DvcxError:
        return ""


class Restored(NamedTuple):
    """A known result that was taken: its entry, the remote its bytes came from ("": the cache), whether they stay `away`."""

    entry: LockEntry
    remote: str
    away: bool = False


def restore(shop: Workshop, stage: Stage, now: Snapshot, locked: LockEntry | None, reasons: Sequence[Reason]) -> Restored | None:
    """Put a known result of the stage in place: the lock's, when only outputs differ, or the action cache's. None without one."""
    remotes, pulling = shop.floor.remotes, shop.floor.pulling
    found = known_result(stage, now, locked, reasons, lambda: shop.cache, remotes)
    if found is None:
        return None
    known = found.outs
    recorded = locked is not None and only_outputs(reasons) and known == locked.outs
    entry = locked if locked is not None and recorded else lock_entry(stage, now, Snapshot(known))
    absent = not any(os.path.lexists(f"{shop.project.root}/{path}") for path in known)
    if pulling is not None and remotes is not None and absent and not pulling.wants(stage):
        there = remotes.where(known, shop.cache)
        if entry is not locked and there is None:
            return None
        with shop.holding(stage):
            _record(shop, stage, entry)
        pulling.leave_away(known)
        return Restored(entry, there or "", away=True)
    remote = remotes.bring(known, shop.cache) if remotes is not None else ""
    if remote is None:
        return None
    try:
        if not put(shop, stage, known, entry):
            return None
    except (IntegrityError, UnsafeInput) as error:
        if not found.remote:
            raise
        shop.emit(Noted(f"the result on remote '{display(found.remote)}' was not used: {error.message}"))
        return None
    if pulling is not None:
        pulling.is_here(known)
    return Restored(entry, remote)


def put(shop: Workshop, stage: Stage, known: Mapping[str, Content], entry: LockEntry | None) -> bool:
    """Place what a stage writes or reads, and record its `entry`; whether the cache held all of it."""
    with shop.holding(stage), shop.project.cache_reader_lock(f"dvcx repro ({stage.address})", shop.emit):
        # A collection may have taken what was there when this command began.
        shop.cache.sync(again=True)
        if not holds(shop.cache, known):
            return False
        here = observe(shop.project, known, index=shop.index, rules=shop.rules, emit=shop.emit)
        plan = Placement()
        for path, content in known.items():
            plan_placement(path, here[path], content, workspace_trees(shop.index), stored_trees(shop.cache), plan)
        find_strangers(shop.project, plan, shop.index, shop.rules)
        _save_unsaved(shop, plan.overwritten)
        if not plan.empty:
            carry_out(shop.project, shop.cache, shop.index, shop.rules, plan, emit=shop.emit)
        if entry is not None:
            _record(shop, stage, entry)
    return True


def run(shop: Workshop, stage: Stage, now: Snapshot, reasons: Sequence[Reason]) -> tuple[LockEntry, float]:
    """Run the stage's command and record the result; (lock entry, seconds).

    Raises `StageFailed` when the command fails, leaves no output or changes an input, `NotFound` for a missing input. Then
    the old outputs are back, nothing is recorded, and what the failed run wrote lies in the state directory.
    """
    project = shop.project
    key = seal(action_key(stage, now, lambda path: _near(project, path))).hex()
    check_all_here(stage, now)
    commands = lines_of(stage.cmd)
    shop.emit(StageBegan(stage.address, " && ".join(commands), tuple(reason.text for reason in reasons)))
    aside = aside_of(project, stage.address)
    with shop.holding(stage):
        moved = _put_aside(shop, stage, aside)
    try:
        directory = f"{project.root}/{stage.wdir}" if stage.wdir else project.root
        if not os.path.isdir(directory):
            raise StageFailed(
                f"{stage.told()}: its wdir {display(stage.wdir)} does not exist",
                "make it, or correct dvcx.yaml",
            )
        done = _attempts(shop, stage, now, commands, directory, key, reasons)
    except BaseException:
        _put_back(shop, stage, aside, moved)
        raise
    if _return_ignored(project, shop.rules, moved):
        place.remove_below(aside)
    else:
        _keep_aside(project, aside, shop.emit)
    return done.entry, done.seconds


def _near(project: Project, path: str) -> str:
    """A hint at how to get a path that is recorded, or at what lies beside it and is called almost the same."""
    from dvcx.core.spelling import did_you_mean

    if records.owner_of(records.load(project), path):
        return f"dvcx pull {display(path)} brings what is recorded."
    base = parent(path)
    try:
        names = sorted(name for name in os.listdir(f"{project.root}/{base}") if not is_record(name))
    except OSError:
        return ""
    return did_you_mean(display(path), [display(join(base, name)) for name in names])


def _attempts(
    shop: Workshop, stage: Stage, now: Snapshot, commands: Sequence[str], directory: str, key: str, reasons: Sequence[Reason]
) -> Done:
    """Try until the command ends well, as often as the stage says; then take and record what it wrote."""
    tries = stage.execution.retries + 1
    texts = tuple(reason.text for reason in reasons)
    for attempt in range(1, tries + 1):
        record = runs.Run(
            runs.new_name(),
            stage.address,
            runs.RUNNING,
            tuple(commands),
            texts,
            attempt,
            pid=os.getpid(),
            key=key,
            facts=shop.floor.facts(commands, directory),
        )
        with Listener(shop.project.state_dir, record, shop.emit, alone=not shop.floor.several) as listener:
            outcome = _command(shop, stage, commands, directory, listener)
            try:
                if not is_there(shop.project):
                    raise StageFailed(
                        f"stage '{display(stage.address)}': the command removed the project in {display(shop.project.root)}",
                        "restore it: git checkout -- .dvcx, or dvcx init",
                    )
                if not outcome.good:
                    raise _failure(stage, outcome, interrupted=not shop.floor.leash.pulled)
                entry = _finish(shop, stage, now, key)
            except BaseException as error:
                kept = _keep_failed(shop, stage, record.run)
                listener.end(outcome, error, kept)
                if outcome.good or outcome.cut == STOPPED or attempt == tries or not isinstance(error, StageFailed):
                    raise
                shop.emit(Noted(f"{error.message}; attempt {attempt + 1} of {tries} follows"))
                continue
            listener.end(outcome)
        return Done(entry, outcome.wall)
    raise AssertionError("unreachable")


def is_there(project: Project) -> bool:
    """Whether the project still is one: a command may remove anything."""
    return os.path.isfile(f"{project.root}/.dvcx/config.toml")


def _command(shop: Workshop, stage: Stage, commands: Sequence[str], directory: str, listener: Listener) -> Outcome:
    """Run the commands. Their process group is noted meanwhile, so that it can be found when dvcx itself is killed."""
    note = f"{stage_file(shop.project, stage.address)}{GROUP}"
    try:
        outcome = run_commands(
            commands,
            directory=directory,
            environment={**shop.environment, MARK: stage.address},
            hear=listener.hear,
            leash=shop.floor.leash,
            timeout=stage.execution.timeout,
            started=lambda pid: _note_group(note, pid, stage),
            terminal=shop.floor.terminal,
        )
    finally:
        listener.finish()
        with contextlib.suppress(OSError):
            os.unlink(note)
    return outcome


def _note_group(path: str, pid: int, stage: Stage) -> None:
    with contextlib.suppress(OSError), open(path, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(f"{pid}\n{stage.address}\n")


def _failure(stage: Stage, outcome: Outcome, *, interrupted: bool) -> StageFailed:
    kind = StageFailed if outcome.cut != STOPPED else Interrupted if interrupted else Stopped
    limit = f" ({stage.execution.timeout:g} s)" if outcome.cut and kind is StageFailed else ""
    return kind(
        f"stage '{display(stage.address)}': the command {outcome.how}{limit}: {display(outcome.command)}",
        f"dvcx log {display(stage.address)} shows what it printed; its old outputs are back in place",
    )


def _finish(shop: Workshop, stage: Stage, now: Snapshot, key: str) -> LockEntry:
    """Take the outputs into the cache, then record them. Hashing holds up nobody; recording holds the project for a moment."""
    for _ in range(_TAKE_AGAIN):
        entry = _take_outputs(shop, stage, now, key)
        with shop.holding(stage), shop.project.cache_reader_lock(f"dvcx repro ({stage.address})", shop.emit):
            # In between a collection may have taken what the cache had before, and nobody else needs.
            if _all_held(shop, stage, entry):
                _record(shop, stage, entry)
                return entry
    raise Busy(
        f"stage '{display(stage.address)}': its outputs are collected from the cache as fast as they are stored",
        "let dvcx gc end, then run it again",
    )


def _all_held(shop: Workshop, stage: Stage, entry: LockEntry) -> bool:
    kept = [wanted(entry.outs[out.path]) for out in stage.outs if out.cache]
    if not kept:
        return True
    shop.cache.sync(again=True)
    return not shop.cache.missing(kept)


def check_all_here(stage: Stage, now: Snapshot) -> None:
    """Raise `NotFound` for a dependency of which a part was never pulled."""
    for path in read_files(stage, now):
        files = now.not_pulled.get(path)
        if files is not None:
            raise NotFound(
                f"{stage.told(path)}: its dependency {display(path)} is not all here "
                f"({files:,} {'file' if files == 1 else 'files'} not pulled)",
                f"dvcx pull {display(path)}",
            )


def _save_unsaved(shop: Workshop, overwritten: Sequence[tuple[str, Entry]]) -> None:
    """Nothing is overwritten that is nowhere else: it goes into the cache first, and its id is told."""
    lost = unsaved(shop.cache, overwritten)
    if not lost:
        return
    with shop.project.cache_writer_lock("dvcx repro", shop.emit):
        kept = keep(shop.project, shop.cache, lost, emit=shop.emit)
    for item in kept[:10]:
        shop.emit(Noted(f"kept {display(item.path)} as it was: dvcx cache get {item.id} FILE"))
    if len(kept) > 10:
        shop.emit(Noted(f"kept {len(kept) - 10:,} more files in the cache"))


def _put_aside(shop: Workshop, stage: Stage, aside: str) -> dict[str, str]:
    """Move old outputs out of the command's way; where each is. A manifest lets a later run put them back after a kill."""
    overwritten: list[tuple[str, Entry]] = []
    present: dict[str, bool] = {}
    # Looked at again, now that nobody else changes them: waiting for the lock may have taken its time.
    here = observe(shop.project, [out.path for out in stage.outs], index=shop.index, rules=shop.rules, emit=shop.emit)
    for out in stage.outs:
        content = here[out.path]
        if content is None:
            continue
        if out.cache:
            overwritten.extend(files_below(out.path, as_entry("", content), workspace_trees(shop.index)))
        if not out.persist:
            present[out.path] = out.cache
    _save_unsaved(shop, overwritten)
    moved = {path: f"{aside}/{number}" for number, path in enumerate(present)}
    for out in stage.outs:
        # Commands expect the directory they write into.
        os.close(open_parent(shop.project.root, out.path, create=True)[0])
    if not moved:
        return {}
    private_directory(shop.project.staging_dir)
    private_directory(aside)
    atomic_write(f"{aside}/manifest.json", json.dumps(present).encode(), mode=0o600, fsync=False)
    try:
        for path, target in moved.items():
            place.move_out(shop.project.root, path, target)
    except BaseException:
        for path, target in moved.items():
            if os.path.lexists(target):
                with contextlib.suppress(DvcxError):
                    place.move_in(shop.project.root, path, target)
        raise
    return moved


def _return_ignored(project: Project, rules: Rules, moved: Mapping[str, str]) -> bool:
    """Files that .dvcxignore names are nobody's output: back to where they lay in the old one; whether none is left aside.

    Where the command wrote another of the same name, that one stands.
    """
    if rules.ignored is None:
        return True
    left = False
    todo = [(path, kept) for path, kept in moved.items() if _is_directory(kept)]
    while todo:
        path, kept = todo.pop()
        with os.scandir(kept) as entries:
            for entry in entries:
                name = f"{path}/{entry.name}"
                is_directory = entry.is_dir(follow_symlinks=False)
                if rules.ignored(name, is_directory):
                    if not os.path.lexists(f"{project.root}/{name}"):
                        try:
                            place.move_in(project.root, name, entry.path)
                        except DvcxError:
                            left = True
                elif is_directory:
                    todo.append((name, entry.path))
    return not left


def _is_directory(path: str) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


def _keep_aside(project: Project, aside: str, emit: Emit) -> None:
    """What lies aside and cannot go back is moved where the user finds it."""
    kept = f"{project.state_dir}/{os.path.basename(aside)}"
    with contextlib.suppress(OSError):
        os.rename(aside, kept)
        emit(Noted(f"old outputs that could not be put back are kept in {display(kept)}"))


def _keep_failed(shop: Workshop, stage: Stage, run: str) -> str:
    """Move what a failed attempt wrote out of the way, where the user may look at it; the place, "" when there is nothing."""
    failed = f"{shop.project.state_dir}/failed"
    here = f"{failed}/{run}"
    moved = False
    for number, out in enumerate(stage.outs):
        if out.persist or not os.path.lexists(f"{shop.project.root}/{out.path}"):
            continue
        with contextlib.suppress(OSError, DvcxError):
            os.makedirs(here, mode=0o700, exist_ok=True)
            moved |= place.move_out(shop.project.root, out.path, f"{here}/{number}-{os.path.basename(out.path)}")
    if not moved:
        with contextlib.suppress(OSError):
            os.rmdir(here)
        return ""
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(failed), key=lambda name: os.lstat(f"{failed}/{name}").st_ctime_ns)[:-KEPT_FAILED]:
            place.remove_below(f"{failed}/{name}")
    return here


def _put_back(shop: Workshop, stage: Stage, aside: str, moved: Mapping[str, str]) -> None:
    """Old outputs come back."""
    _keep_failed(shop, stage, runs.new_name())
    for path, kept in moved.items():
        with contextlib.suppress(DvcxError):
            place.move_in(shop.project.root, path, kept)
    if not any(os.path.lexists(kept) for kept in moved.values()):
        place.remove_below(aside)


def stage_file(project: Project, address: str) -> str:
    """Where the files about a stage that runs begin: its lock, and the process group of its command."""
    return f"{project.state_dir}/stages/{_short(address)}"


def aside_of(project: Project, address: str) -> str:
    """Where a stage's old outputs lie while it runs."""
    return f"{project.staging_dir}/{ASIDE}{_short(address)}"


def _short(address: str) -> str:
    return seal(address.encode()).hex()[:16]


def recover(project: Project, stages: Sequence[Stage], emit: Emit) -> None:
    """Put back outputs that a killed `repro` had moved aside; not those of stages that run now. Hold the project's lock."""
    end_orphans(project)
    records.reap(project, [path for stage in stages for path in (stage.file, *(out.path for out in stage.outs))])
    try:
        names = [name for name in os.listdir(project.staging_dir) if name.startswith(ASIDE)]
    except OSError:
        return
    for name in names:
        guard = f"{project.state_dir}/stages/{name.removeprefix(ASIDE)}"
        with contextlib.suppress(Busy), lock.hold(guard, command="dvcx repro", timeout=0):
            bring_back(project, f"{project.staging_dir}/{name}", emit)


def bring_back(project: Project, aside: str, emit: Emit) -> None:
    """Put back what a killed `repro` had moved to `aside`. Hold the lock of its stage."""
    try:
        with open(f"{aside}/manifest.json", encoding="utf-8") as file:
            cached = {path: bool(value) for path, value in json.load(file).items()}
        known = True
    except (OSError, ValueError, AttributeError):
        cached, known = {}, os.listdir(aside) in ([], ["manifest.json"])
    left = []
    for number, path in enumerate(cached):
        kept = f"{aside}/{number}"
        if os.path.lexists(f"{project.root}/{path}"):
            left += [path] if os.path.lexists(kept) else []
        elif os.path.lexists(kept):
            place.move_in(project.root, path, kept)
    moved = {path: f"{aside}/{number}" for number, path in enumerate(cached)}
    if known and all(cached[path] for path in left) and _return_ignored(project, project.rules(), moved):
        # The killed run wrote anew, but these bytes went into the cache before they were moved.
        place.remove_below(aside)
    else:
        _keep_aside(project, aside, emit)


def _unchanged_inputs(shop: Workshop, stage: Stage, before: Snapshot) -> None:
    """Raise `StageFailed` naming an input that is not what it was when the command began."""
    inputs = read_files(stage, before)
    after = observe(shop.project, inputs, index=shop.index, rules=shop.rules, emit=shop.emit)
    changed = [path for path, content in inputs.items() if after[path] != content]
    for of in stage.params:
        was, now = before.params.get(of.file), read_params(shop.project, of.file)
        if was is not None and (now is None or not same(select(now, of.keys), select(was, of.keys))):
            changed.append(of.file)
    if before.external:
        changed += _changed_outside(shop, stage, before)
    for path in changed:
        raise StageFailed(
            f"{stage.told(path)}: its dependency {display(path)} changed while the command ran",
            "a command may not write what it reads: declare it as an output, or run again when nobody else writes it",
        )


def _changed_outside(shop: Workshop, stage: Stage, before: Snapshot) -> list[str]:
    """External inputs that are not what they were; one that does not answer now is taken to be."""
    from dvcx.ops.externals import ask

    addresses = [want.value for want in externals(stage) if not want.pinned]
    found = ask(shop.project, addresses, index=shop.index, patience=LONG).found
    return [address for address in addresses if found.get(address, before.external.get(address)) != before.external.get(address)]


def _take_outputs(shop: Workshop, stage: Stage, before: Snapshot, key: str) -> LockEntry:
    project = shop.project
    _unchanged_inputs(shop, stage, before)
    outs: dict[str, Content] = {}
    complete = True
    with (
        project.cache_writer_lock("dvcx repro", shop.emit, reap=_first(shop.floor)),
        project.writer(shop.cache) as writer,
    ):
        intake = Intake(writer, project.algorithm)
        for out in stage.outs:
            content = _look(shop, stage, out.path, intake if out.cache else None)
            if not out.cache and content.kind != TREE and content.size < SMALL:
                # Small uncached outputs (metrics) are kept as well, so that the whole result can be restored.
                content = _look(shop, stage, out.path, intake)
            elif not out.cache:
                complete = False
            outs[out.path] = content
        entry = lock_entry(stage, before, Snapshot(outs))
        writer.commit()
    if complete and outs and not stage.always_changed:
        with shop.floor.lock:
            shop.floor.results.append(Action(key, outs))
    return entry


def _first(floor: Floor) -> bool:
    """Whether nobody has asked this before: once in a run what killed writers left is looked for."""
    with floor.lock:
        first, floor.reaped = not floor.reaped, True
    return first


def _look(shop: Workshop, stage: Stage, path: str, intake: Intake | None) -> Content:
    from dvcx.io.workspace import Looking

    sink = intake or Looking(shop.project.algorithm)
    content = look(shop.project.root, path, index=shop.index, sink=sink, rules=shop.rules)
    if content is None:
        raise StageFailed(
            f"{stage.told(path)}: the command did not write its output {display(path)}",
            "let it write it, or take it out of the stage's outs in dvcx.yaml",
        )
    return content


def _record(shop: Workshop, stage: Stage, entry: LockEntry) -> None:
    """Note the lock entry, last. Hold the project; `fold` makes it part of dvcx.lock."""
    shop.floor.ledger.record(stage, entry)
    shop.floor.fresh.append(stage)


def fold(project: Project, floor: Floor, emit: Emit) -> None:
    """Write what was noted into dvcx.lock, after the results of actions and the ignore lines of cached outputs."""
    with floor.lock, project.lock("dvcx repro", emit):
        stages, results = floor.fresh, floor.results
        floor.fresh, floor.results = [], []
        if results:
            _keep_results(project, results, emit)
        records.ignore_outputs(project, stages, emit)
        floor.ledger.fold()


def _keep_results(project: Project, results: Sequence[Action], emit: Emit) -> None:
    cache = project.cache(emit)
    try:
        with project.cache_writer_lock("dvcx repro", emit, reap=False):
            actions.keep_here(cache, results, emit)
    finally:
        cache.close()


def staged_records(stages: Sequence[Stage]) -> list[str]:
    """The files to stage in git after these stages were recorded."""
    names = set()
    for stage in stages:
        base = parent(stage.file)
        names.add(f"{base}/{records.LOCK}" if base else records.LOCK)
        names.add(stage.file)
        for out in stage.outs:
            above = parent(out.path)
            if out.cache:
                names.add(f"{above}/.gitignore" if above else ".gitignore")
            else:
                names.add(out.path)
    return sorted(names)
