"""One stage's turn: restore a known result, or run the command; record what it read and wrote, or put everything back."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.changes import as_entry, files_below
from dvcx.core.objects import TREE, Content, Entry
from dvcx.core.packing import SMALL
from dvcx.core.paths import parent
from dvcx.core.pipeline.schema import Stage, file_name
from dvcx.core.plans import Placement, plan_placement
from dvcx.core.records import Action, LockEntry
from dvcx.core.staleness import ALWAYS, Reason, Snapshot, action_key, lock_entry
from dvcx.errors import DvcxError, NotFound, StageFailed, display
from dvcx.events import Emit, Noted, StageBegan
from dvcx.io import git, place
from dvcx.io.files import atomic_write, open_parent, private_directory
from dvcx.io.hashing import seal
from dvcx.io.runners.local import run_commands
from dvcx.io.statindex import StatIndex
from dvcx.io.store.actions import read_action
from dvcx.io.store.intake import Intake
from dvcx.io.store.store import Store
from dvcx.io.store.writer import Writer
from dvcx.io.workspace import Rules, look
from dvcx.ops import actions, records
from dvcx.ops.looking import observe, stored_trees, workspace_trees
from dvcx.ops.placing import ASIDE, carry_out, find_strangers, keep, unsaved
from dvcx.ops.transfer import needed

if TYPE_CHECKING:
    from dvcx.project import Project

MARK = "DVCX_STAGE"


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every stage's turn needs; built once by `repro`. `environment` is what commands see."""

    project: Project
    cache: Store
    index: StatIndex
    rules: Rules
    environment: Mapping[str, str]
    emit: Emit


def restore(shop: Workshop, stage: Stage, now: Snapshot, locked: LockEntry | None, reasons: Sequence[Reason]) -> LockEntry | None:
    """Put a known result of the stage in place: the lock's, when only outputs differ, or the action cache's. None without one."""
    if any(reason.kind == ALWAYS for reason in reasons):
        return None
    try:
        key = action_key(stage, now)
    except NotFound:
        return None
    same_inputs = locked is not None and all(reason.kind.startswith("out_") for reason in reasons)
    # A frozen stage is judged by its outputs alone: its inputs may be others than those its result was made from.
    known = None if stage.frozen else _known_outs(shop, seal(key).hex())
    if known is None and locked is not None and same_inputs:
        known = locked.outs
    if known is None or set(known) != {out.path for out in stage.outs} or not known:
        return None
    command = f"dvcx repro ({stage.address})"
    with shop.project.lock(command, shop.emit), shop.project.cache_reader_lock(command, shop.emit):
        # A collection may have taken what was there when this command began.
        shop.cache.sync(again=True)
        try:
            if shop.cache.missing(needed(known, shop.cache).objects):
                return None
        except NotFound:
            return None
        here = observe(shop.project, known, index=shop.index, rules=shop.rules, emit=shop.emit)
        plan = Placement()
        for path, content in known.items():
            plan_placement(path, here[path], content, workspace_trees(shop.index), stored_trees(shop.cache), plan)
        find_strangers(shop.project, plan, shop.index, shop.rules)
        _save_unsaved(shop, plan.overwritten)
        if not plan.empty:
            carry_out(shop.project, shop.cache, shop.index, shop.rules, plan, emit=shop.emit)
        entry = locked if locked is not None and same_inputs and known == locked.outs else lock_entry(stage, now, Snapshot(known))
        _record(shop, stage, entry)
    return entry


def run(shop: Workshop, stage: Stage, now: Snapshot, reasons: Sequence[Reason]) -> tuple[LockEntry, float]:
    """Run the stage's command and record the result; (lock entry, seconds).

    Raises `StageFailed` when the command fails, leaves no output or changes an input, `NotFound` for a missing input. Then
    the old outputs are back, nothing is recorded, and what the failed run wrote lies in the state directory.
    """
    project = shop.project
    key = action_key(stage, now)
    _check_all_here(stage, now)
    commands = (stage.cmd,) if isinstance(stage.cmd, str) else stage.cmd
    shop.emit(StageBegan(stage.address, " && ".join(commands), tuple(reason.text for reason in reasons)))
    aside = f"{project.staging_dir}/{ASIDE}{secrets.token_hex(8)}"
    with project.lock(f"dvcx repro ({stage.address})", shop.emit):
        moved = _put_aside(shop, stage, aside)
    try:
        directory = f"{project.root}/{stage.wdir}" if stage.wdir else project.root
        if not os.path.isdir(directory):
            raise StageFailed(
                f"stage '{display(stage.address)}': its wdir {display(stage.wdir)} does not exist",
                "make it, or correct dvcx.yaml",
            )
        seconds = run_commands(
            commands, directory=directory, environment={**shop.environment, MARK: stage.address}, stage=stage.address
        )
        # The cache is held until the lock names what went into it: what was there already may be old, and nobody else's.
        command = f"dvcx repro ({stage.address})"
        with project.lock(command, shop.emit), project.cache_writer_lock(command, shop.emit):
            entry = _take_outputs(shop, stage, now, seal(key).hex())
            _record(shop, stage, entry)
    except BaseException:
        _put_back(shop, stage, aside, moved)
        raise
    if _return_ignored(project, shop.rules, moved):
        place.remove_below(aside)
    else:
        _keep_aside(project, aside, shop.emit)
    return entry, seconds


def _check_all_here(stage: Stage, now: Snapshot) -> None:
    for path in stage.deps:
        files = now.not_pulled.get(path)
        if files is not None:
            raise NotFound(
                f"stage '{display(stage.address)}': its dependency {display(path)} is not all here "
                f"({files:,} {'file' if files == 1 else 'files'} not pulled)",
                f"dvcx pull {display(path)}",
            )


def _known_outs(shop: Workshop, key: str) -> Mapping[str, Content] | None:
    try:
        action = read_action(shop.cache.backend, key, shop.cache.label)
    except DvcxError:
        return None
    return action.outs if action is not None else None


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


def _put_back(shop: Workshop, stage: Stage, aside: str, moved: Mapping[str, str]) -> None:
    """Old outputs come back; what the failed run wrote is kept for a look."""
    root = shop.project.root
    failed = f"{shop.project.state_dir}/failed/{file_name(stage.name)}"
    place.remove_below(failed)
    for number, out in enumerate(stage.outs):
        if out.persist:
            continue
        with contextlib.suppress(OSError, DvcxError):
            os.makedirs(failed, mode=0o700, exist_ok=True)
            place.move_out(root, out.path, f"{failed}/{number}-{os.path.basename(out.path)}")
    for path, kept in moved.items():
        with contextlib.suppress(DvcxError):
            place.move_in(root, path, kept)
    if not any(os.path.lexists(kept) for kept in moved.values()):
        place.remove_below(aside)
    with contextlib.suppress(OSError):
        os.rmdir(failed)


def recover(project: Project, stages: Sequence[Stage], emit: Emit) -> None:
    """Put back outputs that a killed `repro` had moved aside. Hold the repro lock: then nobody else's are touched."""
    with project.lock("dvcx repro", emit):
        records.reap(project, [path for stage in stages for path in (stage.file, *(out.path for out in stage.outs))])
    directory = project.staging_dir
    try:
        names = [name for name in os.listdir(directory) if name.startswith(ASIDE)]
    except OSError:
        return
    for name in names:
        aside = f"{directory}/{name}"
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


def _take_outputs(shop: Workshop, stage: Stage, before: Snapshot, key: str) -> LockEntry:
    project = shop.project
    after = observe(project, stage.deps, index=shop.index, rules=shop.rules, emit=shop.emit)
    for path in stage.deps:
        if after[path] != before.contents[path]:
            raise StageFailed(
                f"stage '{display(stage.address)}': its dependency {display(path)} changed while the command ran",
                "a command may not write what it reads: declare it as an output, or run again when nobody else writes it",
            )
    outs: dict[str, Content] = {}
    complete = True
    packing = project.config.get("cache.pack") != "never"
    with (
        project.cache_writer_lock("dvcx repro", shop.emit),
        Writer(shop.cache, "", packing=packing, fsync=project.fsync) as writer,
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
        actions.keep_here(shop.cache, Action(key, outs), shop.emit)
    return entry


def _look(shop: Workshop, stage: Stage, path: str, intake: Intake | None) -> Content:
    from dvcx.io.workspace import Looking

    sink = intake or Looking(shop.project.algorithm)
    content = look(shop.project.root, path, index=shop.index, sink=sink, rules=shop.rules)
    if content is None:
        raise StageFailed(
            f"stage '{display(stage.address)}': the command did not write its output {display(path)}",
            "let it write it, or take it out of the stage's outs in dvcx.yaml",
        )
    return content


def _record(shop: Workshop, stage: Stage, entry: LockEntry) -> None:
    """The lock entry, last; and the ignore lines of cached outputs."""
    project = shop.project
    if project.git is not None:
        git.ignore_all(project.root, [out.path for out in stage.outs if out.cache])
    records.write_lock(project, {stage.address: entry})


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
