"""Making the cache smaller than what is needed: what a remote holds may leave it, the least recently used first."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dvcx.core.collecting import Alone, Packed, Spare, Sweep, shrink
from dvcx.core.packing import Frame
from dvcx.errors import DvcxError, IntegrityError, UsageError, display
from dvcx.events import Advanced, Began, Emit, Ended, Warned
from dvcx.io import configfile
from dvcx.io.files import private_directory
from dvcx.io.hashing import digest_file
from dvcx.io.store import marks, sweep
from dvcx.io.store.store import Store, object_name, pack_name, read_pack_table
from dvcx.io.store.sweep import Inventory
from dvcx.ops.collected import Collected, CollectedFile
from dvcx.ops.reachable import find_roots, other_projects, reach

if TYPE_CHECKING:
    from dvcx.project import Project


def shrink_cache(
    project: Project, cache: Store, result: Collected, gone: Sweep, limit: int, *, dry_run: bool, emit: Emit
) -> Collected:
    """Drop files from the cache, for good, until it holds at most `limit` bytes; `result` with what was dropped.

    Only files all of whose objects are on one of the remotes, listed now, with the same seals. `gone` is what the collection
    before took. Hold the cache's lock alone. Raises `RemoteFailed` when a remote cannot be listed, `Busy` while it is collected.
    """
    there = _left(sweep.inventory(cache), gone)
    size = there.size
    if size <= limit:
        return replace(result, size=size)
    names = project.config.remotes()
    if not names:
        raise UsageError(
            "nothing can be dropped: this project has no remote that could hold it",
            "dvcx remote add -d origin s3://BUCKET/PREFIX (or a directory); then dvcx push",
        )
    chosen = _chosen(project, cache, there, names, limit, dry_run=dry_run, emit=emit)
    dropped = sum(spare.size for spare in chosen)
    if size - dropped > limit:
        emit(
            Warned(
                f"the cache still holds {size - dropped:,} bytes: what is left is on no remote, or linked into a workspace",
                "dvcx push --dry-run shows what is not on the remote yet",
            )
        )
    if chosen and not dry_run:
        private = f"{project.state_dir}/tmp"
        private_directory(private)
        emit(Began("dropping", len(chosen), dropped))
        names_gone = {spare.name for spare in chosen}
        plan = Sweep(
            loose=tuple(item for item in there.loose if _name(cache, item) in names_gone),
            packs=tuple(
                Packed(name, file.size, file.newest, 0, 0, 0) for name, file in there.packs.items() if file.name in names_gone
            ),
        )
        sweep.carry_out(
            cache,
            plan,
            {},
            there,
            day=result.day,
            scratch=private,
            fsync=project.fsync,
            discard=cache.backend.delete,
            moved=lambda files, count: emit(Advanced(files, count)),
        )
        emit(Ended("dropping"))
    files = tuple(CollectedFile(spare.name, spare.size, spare.objects, "on a remote") for spare in chosen)
    return replace(
        result,
        dropped=sum(spare.objects for spare in chosen),
        dropped_bytes=dropped,
        size=size - dropped,
        files=result.files + files,
    )


def _left(there: Inventory, gone: Sweep) -> Inventory:
    """What a collection leaves: the same before and after it was carried out."""
    ids = {item.id for item in gone.loose}
    packs = {pack.name for pack in (*gone.packs, *gone.repack)}
    return replace(
        there,
        loose=[item for item in there.loose if item.id not in ids],
        packs={name: file for name, file in there.packs.items() if name not in packs},
    )


def _chosen(
    project: Project, cache: Store, there: Inventory, names: Sequence[str], limit: int, *, dry_run: bool, emit: Emit
) -> list[Spare]:
    """What goes. Unless in a dry run no collection may take it from the remote that was asked any more."""
    with contextlib.ExitStack() as stack:
        emit(Began("asking the remotes"))
        remotes = []
        for name in names:
            remotes.append(project.remote(name, emit))
            stack.callback(remotes[-1].close)
        held = [_seals(remote) for remote in remotes]
        emit(Ended("asking the remotes"))
        spares, frames = _spares(cache, there, held, _linked(project, cache, emit))
        chosen, counted = _checked(cache, shrink(spares, there.size, limit), frames, held)
        for remote, ids in zip(remotes, counted, strict=True) if not dry_run else ():
            if ids:
                marks.hold(remote, ids)
        return chosen


def _seals(remote: Store) -> dict[bytes, bytes]:
    seals = dict(remote.seals())
    whole = remote.recipes(recipe.id for recipe in remote.catalog.each_recipe())
    seals.update({key: recipe.seal for key, recipe in whole.items() if key not in seals})
    return seals


def _name(cache: Store, item: Alone) -> str:
    return object_name(f"{cache.algorithm}:{item.id.hex()}")


def _spares(
    cache: Store, there: Inventory, held: Iterable[Mapping[bytes, bytes]], linked: set[bytes]
) -> tuple[list[Spare], dict[str, list[Frame]]]:
    """Files whose objects are all on a remote, by their ids; of packs also what is in them."""
    held = list(held)
    spares = []
    tables: dict[str, list[Frame]] = {}
    for item in there.loose:
        if item.id not in linked and any(item.id in seals for seals in held):
            spares.append(Spare(_name(cache, item), item.size, item.newest, 1))
    named = cache.catalog.packs()
    for name, file in there.packs.items():
        if name not in named:
            continue
        frames = read_pack_table(cache.backend, pack_name(name), file.size, f"{cache.label}: {file.name}")
        if all(frame.id not in linked and any(frame.id in seals for seals in held) for frame in frames):
            spares.append(Spare(file.name, file.size, file.newest, len(frames)))
            tables[file.name] = frames
    return spares, tables


def _checked(
    cache: Store, chosen: Iterable[Spare], tables: Mapping[str, list[Frame]], held: Sequence[Mapping[bytes, bytes]]
) -> tuple[list[Spare], list[set[bytes]]]:
    """The same, after comparing seals, and for each remote the ids that it is the first to hold.

    Raises `IntegrityError` for an id that stands for other bytes on every remote.
    """
    right = []
    counted: list[set[bytes]] = [set() for _ in held]
    for spare in chosen:
        frames = tables.get(spare.name)
        if frames is not None:
            pairs = [(frame.id, frame.seal) for frame in frames]
        else:
            key = bytes.fromhex(spare.name[8:10] + spare.name[11:])
            names = digest_file(cache.loose_path(f"{cache.algorithm}:{key.hex()}"), cache.algorithm)
            if names.id != f"{cache.algorithm}:{key.hex()}":
                raise IntegrityError(f"{cache.label}: {spare.name} is corrupt: its bytes are {names.id}", "dvcx pull repairs it")
            pairs = [(key, bytes.fromhex(names.seal))]
        for key, sealed in pairs:
            first = next((number for number, seals in enumerate(held) if seals.get(key) == sealed), None)
            if first is None:
                raise IntegrityError(
                    f"{cache.algorithm}:{key.hex()}: every remote that holds this id holds other bytes under it",
                    "one of them was forged or is corrupt; find out who wrote it before you use either",
                )
            counted[first].add(key)
        right.append(spare)
    return right, counted


def _linked(project: Project, cache: Store, emit: Emit) -> set[bytes]:
    """Objects that symbolic links in a workspace may lead to: they have to stay."""
    if "symlink" not in project.links and not any(_may_symlink(root) for root in other_projects(project)):
        return set()
    return reach(find_roots(project, history=False, emit=emit), [cache], force=True, emit=lambda event: None)[0]


def _may_symlink(root: str) -> bool:
    try:
        config, _ = configfile.load(root, {}, "")
    except DvcxError as error:
        raise type(error)(f"{display(root)}, which uses this cache: {error.message}", error.hint) from None
    return "symlink" in config.get("cache.link")
