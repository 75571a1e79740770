"""cache: how much it holds, where it is, and one object out of it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.objects import Digest, check_id
from dvcx.errors import Conflict, IntegrityError, NotFound, UnsafeInput, UsageError, disk_refused, display
from dvcx.events import Emit, ignore
from dvcx.io.hashing import digest_file
from dvcx.io.store.store import Store, Wanted

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class CacheSize:
    """What the cache holds: objects and bytes in all, those that stand alone, those in packs; what is free on its disk.

    `trash_bytes` is what collections moved away and `dvcx gc --undo` can bring back.
    """

    dir: str
    objects: int
    bytes: int
    loose: int
    loose_bytes: int
    packed: int
    packs: int
    pack_bytes: int
    quarantined: int
    trash_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class CacheDirectory:
    """Where the cache is."""

    dir: str


@dataclass(frozen=True, slots=True)
class Got:
    """An object that was copied out of the cache."""

    id: str
    destination: str
    size: int


def size(project: Project, *, emit: Emit = ignore) -> CacheSize:
    """How much the cache holds. An object that is loose and in a pack is counted once."""
    cache = project.cache(emit)
    try:
        cache.sync()
        loose = dict(cache.loose_objects())
        both = len(cache.catalog.find([bytes.fromhex(object_id.partition(":")[2]) for object_id in loose]))
        packs = cache.catalog.packs()
        packed = cache.catalog.count()
        quarantined = sum(1 for _ in cache.backend.list("quarantine"))
        trash = sum(item.size for item in cache.backend.list("trash"))
    finally:
        cache.close()
    loose_bytes, pack_bytes = sum(loose.values()), sum(packs.values())
    return CacheSize(
        dir=project.cache_dir,
        objects=len(loose) + packed - both,
        bytes=loose_bytes + pack_bytes,
        loose=len(loose),
        loose_bytes=loose_bytes,
        packed=packed,
        packs=len(packs),
        pack_bytes=pack_bytes,
        quarantined=quarantined,
        trash_bytes=trash,
        free_bytes=_free(project.cache_dir),
    )


def directory(project: Project, *, emit: Emit = ignore) -> CacheDirectory:
    """Where the cache is."""
    return CacheDirectory(project.cache_dir)


def get(project: Project, id: str, destination: str, *, emit: Emit = ignore) -> Got:
    """Copy an object, verified, to the absolute path `destination`, which appears whole or not at all.

    Raises `Conflict` when something is there, `NotFound` for an object the cache does not hold, `IntegrityError`.
    """
    try:
        check_id(id, "argument")
    except UnsafeInput as error:
        raise UsageError(error.message, "an id looks like xxh128:5f3c… : dvcx list --verbose shows them") from None
    if not id.startswith(project.algorithm + ":"):
        raise UsageError(f"{id}: this project names objects by {project.algorithm}", "dvcx list --verbose shows ids")
    if os.path.lexists(destination):
        raise Conflict(f"{display(destination)} exists", "choose another name, or move what is there away")
    cache = project.cache(emit)
    try:
        item = _find(cache, id)
        _write(cache, item, destination)
    finally:
        cache.close()
    return Got(id, destination, item.size)


def _find(cache: Store, object_id: str) -> Wanted:
    """The object with the seal and length the cache has for it."""
    if object_id not in cache.have([object_id]):
        raise NotFound(f"object {object_id} is not in the cache", "dvcx list --verbose shows ids; dvcx fetch brings objects")
    place = cache.catalog.find([bytes.fromhex(object_id.partition(":")[2])])
    for found in place.values():
        return Wanted(object_id, found.seal.hex(), found.size)
    path = cache.loose_path(object_id)
    found_names = digest_file(path, cache.algorithm)
    if found_names.id != object_id:
        raise IntegrityError(
            f"object {object_id} is corrupt in the cache: its bytes are {found_names.id}", "get it again: dvcx fetch"
        )
    return _sized(path, found_names)


def _sized(path: str, names: Digest) -> Wanted:
    try:
        return Wanted(names.id, names.seal, os.stat(path).st_size)
    except OSError as error:
        raise disk_refused(error, "looking at it", path) from None


def _write(cache: Store, item: Wanted, destination: str) -> None:
    parent, name = os.path.split(destination)
    if not name or not os.path.isdir(parent):
        raise NotFound(f"{display(parent)} is no directory", "make it with mkdir, or name a file elsewhere")
    temporary = f"{parent}/tmp-dvcx-{secrets.token_hex(8)}"
    try:
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o666)
        try:
            for piece in cache.stream(item):
                view = memoryview(piece)
                while view:
                    view = view[os.write(fd, view) :]
            os.fsync(fd)
        finally:
            os.close(fd)
        _appear(temporary, destination)
    except OSError as error:
        raise disk_refused(error, "writing it", destination) from None
    finally:
        with contextlib.suppress(OSError):
            os.unlink(temporary)


def _appear(temporary: str, destination: str) -> None:
    try:
        os.link(temporary, destination, follow_symlinks=False)
    except FileExistsError:
        raise Conflict(f"{display(destination)} exists", "choose another name, or move what is there away") from None
    except OSError:
        # No hard links on this file system: nothing stands there, as far as one can look.
        if os.path.lexists(destination):
            raise Conflict(f"{display(destination)} exists", "choose another name, or move what is there away") from None
        os.rename(temporary, destination)


def _free(directory: str) -> int:
    while not os.path.isdir(directory):
        directory = os.path.dirname(directory)
    return shutil.disk_usage(directory).free
