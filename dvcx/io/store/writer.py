"""Writing into a store: small objects become packs or loose files, large ones on a remote chunks and a recipe.

An index names them last: nothing is visible before that. What takes long is made visible in steps.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

from dvcx.core.chunking import Chunk, Recipe, encode_recipe, is_chunked, packed, unpacked
from dvcx.core.objects import ALGORITHMS, Digest, digest_bytes
from dvcx.core.packing import (
    BATCH,
    KIND_BLOB,
    KIND_CHUNK,
    KIND_RECIPE,
    KIND_TREE,
    PACK_SIZE,
    RAW,
    REMOTE_BATCH,
    SMALL,
    ZSTD,
    Frame,
    IndexContent,
    Loose,
    PackInfo,
    encode_index,
    split_index,
)
from dvcx.errors import DiskRefused, IntegrityError, disk_refused, display
from dvcx.io import pool
from dvcx.io.files import sync_directories, sync_files, write_all
from dvcx.io.filesystem import check_room, write_refused
from dvcx.io.hashing import BUFFER, Hasher, changed_while_reading, digest, digest_fd, mismatch, name_of, seal, unchanged, xxh128
from dvcx.io.store import fresh, marks
from dvcx.io.store.chunking import Later, Nearby, Spot, from_file, from_pieces, read_chunk, spots, windows
from dvcx.io.store.leftovers import Leftovers
from dvcx.io.store.packfile import OpenPack, WriteBehind, create, fresh_name, move_into
from dvcx.io.store.store import MAX_INDEX, Store, Wanted, object_name, pack_name, stamp

HELD = 32 << 20
NOT_COMPRESSED = 256
PROBED = 128 << 10
"""Larger frames are compressed only when a piece of so many bytes divided by four gets smaller."""
IN_FLIGHT = 2
"""So many full packs may be on their way at once."""
STEP, REMOTE_STEP = 256 << 20, 512 << 20
"""After so many bytes what is finished becomes visible, in a cache or on a remote."""
STEP_SECONDS = 60.0
"""Or after so many seconds."""
LANES = 3
"""Threads that hash and compress the chunks of one file."""
PARTIAL_ABOVE = 64 << 20
"""Larger blobs come to a cache under a name that outlives the command, so that the next one goes on."""
PARTIAL_LIFE = 30 * 24 * 3600.0
ASK_SINGLY = 500
"""So many questions to the catalog cost as much as reading all of it at once."""


class Summary(NamedTuple):
    """What a commit made visible: new objects and their bytes, and the bytes really written or sent.

    `new` are the bytes of objects and chunks that were not there before: less than `bytes` when large blobs share chunks.
    """

    objects: int
    bytes: int
    stored: int
    new: int = 0


class Sent(NamedTuple):
    """How a large blob went: its bytes, and how many of them the store did not have."""

    bytes: int
    new: int


class Writer:
    """A batch of new objects for one store. Use as a context manager; leaving it with an error drops what was prepared.

    `put` and `receive` may be called from several threads. `commit` makes everything durable, then visible. `journal` is a
    file that remembers loose objects sent to a remote until an index names them. `mending`: the caller has read the store, and
    what it told it to forget is not there. `advanced` hears of the bytes of large blobs.
    """

    def __init__(
        self,
        store: Store,
        scratch: str,
        *,
        packing: bool = True,
        compress: bool = False,
        fsync: str = "batch",
        journal: str = "",
        mending: bool = False,
        advanced: Callable[[int], None] | None = None,
    ) -> None:
        self._store = store
        self._scratch = store.local.path("packs") if store.local is not None else scratch
        self._id_length = ALGORITHMS[store.algorithm]
        self._reused: set[bytes] = set()
        self._unnamed_reused: set[bytes] = set()
        self._mending = mending
        if store.is_cache and not mending:
            # A collection may have moved things since the store was opened; now the lock keeps it away.
            store.sync(again=True)
        self._packing = packing
        self._batch = BATCH if store.is_cache else REMOTE_BATCH
        self._compress = compress
        self._compressors = threading.local()
        self._fsync = fsync
        self._advanced = advanced
        self._left = Leftovers(store, journal) if not store.is_cache and not mending else None
        self._lock = threading.Lock()
        self._large = threading.Lock()
        self._stopped = threading.Event()
        self._new: dict[bytes, bytes] = {}
        self._taken: set[bytes] = set()
        self._known: dict[bytes, bytes] | None = None
        self._directories: set[str] | None = None
        self._asked = 0
        self._held: list[tuple[Digest, int, bytes]] = []
        self._held_bytes = 0
        self._packed = False
        self._made: list[str] = []
        self._pack: OpenPack | None = None
        self._closing: list[Later] = []
        self._finished: list[_Finished] = []
        self._indexes: list[str] = []
        self._loose: list[Loose] = []
        self._recipes: dict[bytes, list[Recipe]] = {}
        self._unsent: set[bytes] = set()
        self._pending: list[_Pending] = []
        self._stamps: list[tuple[bytes, bytes, str]] = []
        self._spots: dict[bytes, Spot] = {}
        self._named_at = time.monotonic()
        self._unnamed = 0
        self._objects = 0
        self._bytes = 0
        self._fresh = 0
        self._stored = 0

    def __enter__(self) -> Writer:
        return self

    def __exit__(self, kind: object, *rest: object) -> None:
        if kind is not None:
            self.abort()

    @property
    def local(self) -> bool:
        """Whether the store is a directory here."""
        return self._store.local is not None

    @property
    def keeps_whole(self) -> bool:
        """Whether large blobs are files of their own in the store, not chunks."""
        return self._store.is_cache

    # What is already there

    def has(self, names: Digest) -> bool:
        """Whether the store or this batch holds the object. Raises `IntegrityError` for the same id with another seal."""
        return self._has(digest_bytes(names.id), bytes.fromhex(names.seal), names)

    def _has(self, key: bytes, sealed: bytes, names: Digest) -> bool:
        found = self._new.get(key)
        if found is None:
            found = self._in_store(key, names.id)
            if found is None:
                return self._adopted(key, sealed)
            if not self._store.is_cache or len(self._reused) <= fresh.MANY:
                self._reused.add(key)
        if found and found != sealed:
            raise IntegrityError(
                f"{names.id}: {self._store.label} holds other bytes under this id "
                f"(BLAKE3 {found.hex()[:12]}…, these bytes have {names.seal[:12]}…)",
                "one of the two was forged to collide: find out who made it; 'dvcx init --hash blake3' is safe for such data",
            )
        return True

    def _in_store(self, key: bytes, object_id: str) -> bytes | None:
        """The seal the store knows for an object; None when it is not there."""
        if self._directories is None:
            self._directories = self._store.loose_directories() if self._store.is_cache and not self._mending else set()
            self._asked = ASK_SINGLY if self._store.count() < ASK_SINGLY else 0
        self._asked += 1
        if self._known is None and self._asked > ASK_SINGLY:
            self._known = self._store.seals()
        if self._known is not None:
            found = self._known.get(key)
        else:
            found = self._store.seal_of(key)
        if found is None and object_id[7:9] in self._directories:
            found = self._seal_of_loose(key, object_id)
        return found

    def _seal_of_loose(self, key: bytes, object_id: str) -> bytes | None:
        """The seal of a loose object: remembered, or when nobody remembers it or it was touched since, from its bytes."""
        path = self._store.loose_path(object_id)
        try:
            status = os.lstat(path)
            known = self._store.catalog.verified(key)
            if known is not None and known[1] == stamp(status):
                return known[0]
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError:
            return None
        try:
            found, _ = digest_fd(fd, self._store.algorithm)
            status = os.fstat(fd)
        finally:
            os.close(fd)
        if found.id != object_id:
            self._store.quarantine(object_id)
            return None
        sealed = bytes.fromhex(found.seal)
        self._store.catalog.set_verified([(key, sealed, stamp(status))])
        return sealed

    def _adopted(self, key: bytes, sealed: bytes) -> bool:
        """Whether an interrupted writer had sent the object already; then the next index names it."""
        if self._left is None:
            return False
        pack = self._left.pack_with(key, sealed)
        if pack is not None:
            self._finished.append(_Finished(pack.info))
            for recipe in pack.recipes.values():
                self._recipes.setdefault(recipe.id, []).append(recipe)
            held = {frame.id: frame.seal for frame in pack.info.frames if frame.kind != KIND_RECIPE}
            self._new.update(held)
            self._taken.update(held)
            return True
        loose = self._left.loose(key, sealed)
        if loose is not None:
            self._loose.append(loose)
            self._new[key] = sealed
            self._taken.add(key)
            # A collection may have marked it as unused before this index names it.
            self._reused.add(key)
            self._unnamed_reused.add(key)
        return loose is not None

    # Taking objects in

    def put(self, names: Digest, data: bytes, *, tree: bool = False) -> bool:
        """Take a small object; False when it is there already."""
        key, sealed = digest_bytes(names.id), bytes.fromhex(names.seal)
        with self._lock:
            if self._has(key, sealed, names):
                self._count_taken(key, len(data))
                return False
            self._new[key] = sealed
            kind = KIND_TREE if tree else KIND_BLOB
            try:
                if self._packed and len(data) < SMALL:
                    self._append(key, sealed, kind, data)
                else:
                    self._place(names, kind, data)
            except BaseException:
                self._new.pop(key)
                raise
            self._count(len(data), len(data))
            return True

    def _count(self, size: int, fresh: int) -> None:
        """An object of `size` bytes became part of this batch, `fresh` of them not there before."""
        self._objects += 1
        self._bytes += size
        self._fresh += fresh

    def _count_taken(self, key: bytes, size: int) -> None:
        """One that an interrupted writer had sent is new to everybody else."""
        if key in self._taken:
            self._taken.discard(key)
            self._count(size, 0)

    def replace(self, names: Digest, data: bytes) -> None:
        """Take a good copy of an object whose copy in the store is corrupt: it stands alone, whatever its size."""
        with self._lock:
            self._write_loose(names, KIND_BLOB, data)

    def keep(self, frame: Frame, data: bytes, recipe: Recipe | None = None) -> None:
        """Take over an object, just verified, of a pack of this store that is to go, whatever the catalog says.

        Of a recipe `data` are its own bytes, and `recipe` is what they say.
        """
        with self._lock:
            if frame.id in self._new:
                return
            self._new[frame.id] = frame.seal
            self._count(len(data), 0)
            if recipe is None:
                self._append(frame.id, frame.seal, frame.kind, data)
                return
            self._recipes.setdefault(frame.id, []).append(recipe)
            self._append_frame(frame.id, frame.seal, frame.kind, RAW, data, len(data))

    def _place(self, names: Digest, kind: int, data: bytes) -> None:
        if len(data) >= SMALL or not self._packing:
            self._write_loose(names, kind, data)
        else:
            self._held.append((names, kind, data))
            self._held_bytes += len(data)
            if len(self._held) >= self._batch:
                held, self._held, self._held_bytes = self._held, [], 0
                self._packed = True
                for name, its_kind, its_data in held:
                    self._append(digest_bytes(name.id), bytes.fromhex(name.seal), its_kind, its_data)
            elif self._held_bytes > HELD:
                self._flush_held()

    def _flush_held(self) -> None:
        held, self._held, self._held_bytes = self._held, [], 0
        for item in held:
            self._write_loose(*item)

    def _append(self, key: bytes, sealed: bytes, kind: int, data: bytes) -> None:
        encoding, stored = self._encoded(data)
        self._append_frame(key, sealed, kind, encoding, stored, len(data))

    def _append_frame(self, key: bytes, sealed: bytes, kind: int, encoding: int, stored: bytes | memoryview, size: int) -> None:
        if self._pack is None:
            if self._store.local is not None:
                self._store.local.make_directories("packs/x")
            self._pack = OpenPack(self._fresh_name(self._scratch), self._id_length)
        self._pack.append(key, sealed, kind, encoding, stored, size)
        if self._pack.size >= PACK_SIZE:
            self._close_pack()
            self._step()

    def _encoded(self, data: bytes | memoryview) -> tuple[int, bytes | memoryview]:
        """(encoding, bytes) of a frame. Several threads may ask."""
        if not self._compress or len(data) < NOT_COMPRESSED:
            return RAW, data
        compressor = getattr(self._compressors, "one", None)
        if compressor is None:
            import zstandard

            compressor = self._compressors.one = zstandard.ZstdCompressor(level=3)
        if len(data) > PROBED:
            # Photographs and the like: a look at the middle saves the work.
            middle = len(data) // 2
            probe = data[middle : middle + PROBED // 4]
            if len(compressor.compress(probe)) * 100 > len(probe) * 97:
                return RAW, data
        stored = compressor.compress(data)
        return (ZSTD, stored) if len(stored) * 10 <= len(data) * 9 else (RAW, data)

    def _close_pack(self) -> None:
        pack, self._pack = self._pack, None
        if pack is not None:
            if len(self._closing) >= IN_FLIGHT:
                # A slow remote must not fill the disk with packs that wait for it.
                self._take(self._closing.pop(0))
            # Durable while the next pack fills: a disk takes its time.
            self._closing.append(Later(self._finish, pack))

    def _take(self, closing: Later) -> None:
        pack = closing.result()
        self._finished.append(pack)
        self._stored += pack.info.size
        self._unnamed += pack.info.size

    def _finish(self, pack: OpenPack) -> _Finished:
        info = pack.finish(sync=self._store.local is not None and self._fsync != "none")
        name = pack_name(info.name.hex())
        if self._store.local is not None:
            target = self._store.local.path(name)
            try:
                inode = 0 if os.path.lexists(target) else os.lstat(pack.path).st_ino
                move_into(self._store.local, pack.path, name)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(pack.path)
                raise
            return _Finished(info, target, inode)
        try:
            self._store.backend.upload(name, pack.path, self._check_stopped)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(pack.path)
        return _Finished(info)

    def _check_stopped(self, count: int) -> None:
        """Ends an upload that nobody waits for any more."""
        if self._stopped.is_set():
            raise pool.GivenUp

    def _heard(self, count: int) -> None:
        if self._advanced is not None:
            self._advanced(count)

    def _write_loose(self, names: Digest, kind: int, data: bytes) -> None:
        item = Loose(digest_bytes(names.id), bytes.fromhex(names.seal), kind, len(data))
        if self._store.local is None:
            self._store.backend.write(object_name(names.id), data)
            self._sent_loose(item)
            return
        self._loose.append(item)
        self._stored += len(data)
        self._unnamed += len(data)
        path = self.temporary()
        try:
            fd = create(path)
        except OSError as error:
            raise write_refused(error, "writing an object", path, len(data)) from None
        # From here on `abort` takes the file away.
        self._pending.append(_Pending(path, object_name(names.id)))
        try:
            write_all(fd, data)
            if self._fsync == "full":
                os.fsync(fd)
        except OSError as error:
            raise write_refused(error, "writing an object", path, len(data)) from None
        finally:
            os.close(fd)

    def _sent_loose(self, item: Loose) -> None:
        """An object stands alone on the remote: named by the next index, remembered until then."""
        self._loose.append(item)
        self._stored += item.size
        self._unnamed += item.size
        if self._left is not None:
            self._left.remember(item)

    def temporary(self) -> str:
        """A fresh name for a file on its way into the local store."""
        assert self._store.local is not None
        self._store.local.make_directories("objects/x")
        return self._fresh_name(self._store.local.path("objects"))

    def _fresh_name(self, directory: str) -> str:
        """Remembered before there is a file: a signal may end this anywhere, and `abort` takes away what is there."""
        path = fresh_name(directory)
        self._made.append(path)
        return path

    # Large files into a local store

    def ingest(self, fd: int, where: str, *, link_path: tuple[str, int] | None = None) -> tuple[Digest, int]:
        """Take in a file of any size through its open descriptor: hashed in the read that copies it, or linked.

        `link_path` (name, directory descriptor) puts the file itself into the store as a hard link. Gives names and length.
        Raises `DiskRefused` when the file changes meanwhile (three tries).
        """
        mode = os.fstat(fd).st_mode
        for _ in range(3):
            path = self.temporary()
            before = os.fstat(fd)
            try:
                linked = link_path is not None and _may_be_linked(before) and _link(link_path, path, fd)
                os.lseek(fd, 0, os.SEEK_SET)
                names, total = self._hash_linked(fd) if linked else self._copy(fd, path, before.st_size)
                after = os.fstat(fd)
                # Linking moved the ctime, so only the time of the last write counts then.
                same = before.st_mtime_ns == after.st_mtime_ns if linked else unchanged(before, after)
                if same and total == after.st_size:
                    self._adopt(names, path, total)
                    return names, total
                _give_up(path, fd, mode)
            except OSError as error:
                _give_up(path, fd, mode)
                raise write_refused(error, "copying it into the cache", where, before.st_size, at=path) from None
            except BaseException:
                _give_up(path, fd, mode)
                raise
        raise changed_while_reading(where)

    def _adopt(self, names: Digest, path: str, size: int, lock: int = -1) -> None:
        """A file at a temporary path is an object. `lock` is the descriptor that holds a partial one."""
        with self._lock:
            key, sealed = digest_bytes(names.id), bytes.fromhex(names.seal)
            if self._has(key, sealed, names):
                os.unlink(path)
                if lock >= 0:
                    os.close(lock)
                return
            self._new[key] = sealed
            self._count(size, size)
            self._stored += size
            self._unnamed += size
            self._loose.append(Loose(key, sealed, KIND_BLOB, size))
            assert self._store.local is not None
            self._pending.append(_Pending(path, object_name(names.id), lock))
            self._step()

    def _hash_linked(self, fd: int) -> tuple[Digest, int]:
        os.fchmod(fd, 0o444)
        return digest_fd(fd, self._store.algorithm, self._advanced)

    def _copy(self, fd: int, path: str, size: int) -> tuple[Digest, int]:
        target = create(path)
        try:
            if _reflink(fd, target):
                os.lseek(target, 0, os.SEEK_SET)
                return digest_fd(target, self._store.algorithm, self._advanced)
            check_room(os.path.dirname(path), size, "a copy in the cache")
            hasher = Hasher(self._store.algorithm)
            buffer = bytearray(BUFFER)
            view = memoryview(buffer)
            behind = WriteBehind(target, sync=self._fsync != "none")
            total = 0
            while got := os.readv(fd, [buffer]):
                piece = view[:got]
                hasher.update(piece)
                write_all(target, piece)
                behind.wrote(got)
                total += got
                if self._advanced is not None:
                    self._advanced(got)
                if total > size:
                    break
            return hasher.digest(), total
        finally:
            os.close(target)

    def receive(self, item: Wanted, source: Store) -> Sent:
        """Take a large object from another store, streamed; verified before it can become visible."""
        if not self._store.is_cache and is_chunked(item.size):
            with self._large:
                return self._send_chunks(item, source)
        if self._store.local is None:
            self._send(item, source)
        elif item.size > PARTIAL_ABOVE and source.is_recipe(item):
            self._resume(item, source)
        else:
            source.once_more(lambda: self._take_stream(item, source))
        return Sent(item.size, item.size)

    def _take_stream(self, item: Wanted, source: Store) -> None:
        path = self.temporary()
        try:
            target = create(path)
            try:
                with contextlib.closing(self._nearby(source)) as nearby:
                    if source.is_recipe(item):
                        pieces = source.assemble(item, lambda _, *chunk: _outside(nearby.read(*chunk)))
                        stream: Iterable[bytes | memoryview] = (piece for piece, _ in pieces)
                    else:
                        stream = source.stream(item)
                    behind = WriteBehind(target, sync=self._fsync != "none")
                    for piece in stream:
                        write_all(target, piece)
                        behind.wrote(len(piece))
                        self._heard(len(piece))
            finally:
                os.close(target)
            self._adopt(Digest(item.id, item.seal), path, item.size)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise write_refused(error, "writing an object", path, item.size) from None
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise

    def _resume(self, item: Wanted, source: Store) -> None:
        """Take a large blob that may be here in part: what is right of it stays, the rest is fetched. It stays when this ends."""
        path, target = self._partial(item.id)
        if target < 0:
            # Another process is fetching the same.
            self._take_stream(item, source)
            return

        def held(offset: int, key: bytes, sealed: bytes, size: int) -> tuple[bytes, bool] | None:
            found = read_chunk(target, offset, key, sealed, size, source.algorithm)
            return (found, True) if found is not None else _outside(nearby.read(key, sealed, size))

        try:
            with contextlib.closing(self._nearby(source)) as nearby:
                at = 0
                behind = WriteBehind(target, sync=self._fsync != "none")
                for piece, in_place in source.assemble(item, held):
                    if not in_place:
                        _write_at(target, piece, at)
                    at += len(piece)
                    behind.wrote(len(piece))
                    self._heard(len(piece))
            os.ftruncate(target, at)
        except OSError as error:
            os.close(target)
            raise disk_refused(error, "writing an object", path) from None
        except BaseException:
            os.close(target)
            raise
        self._adopt(Digest(item.id, item.seal), path, item.size, target)

    def _partial(self, object_id: str) -> tuple[str, int]:
        """The file of a blob under way, and its descriptor, locked; -1 while another process writes it."""
        import fcntl

        assert self._store.local is not None
        directory = self._store.local.path("partial")
        path = f"{directory}/{object_id.partition(':')[2]}"
        try:
            self._store.local.make_directories("partial/x")
            _reap(directory, PARTIAL_LIFE)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise disk_refused(error, "writing an object", path) from None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if stat.S_ISREG(os.fstat(fd).st_mode) and _is_at(path, os.fstat(fd)):
                return path, fd
        except OSError:
            pass
        os.close(fd)
        return path, -1

    def nearby(self, items: Sequence[Wanted], source: Store) -> None:
        """Look which chunks of these blobs, about to be received from `source`, lie in older versions of them in this cache."""
        if not self._store.is_cache or source.is_cache:
            return
        recipes = source.recipes(digest_bytes(item.id) for item in items)
        chunks = {key for recipe in recipes.values() for key, _ in unpacked(recipe.chunks, self._id_length)}

        def path_of(key: bytes) -> str:
            object_id = f"{self._store.algorithm}:{key.hex()}"
            return self._store.loose_path(object_id) if self._store.is_loose(object_id) else ""

        if chunks:
            self._spots = spots(source.catalog.each_recipe(), chunks, path_of, self._id_length)

    def _nearby(self, source: Store) -> Nearby:
        return Nearby(self._spots, source.algorithm)

    def _send(self, item: Wanted, source: Store) -> None:
        names, key, sealed = Digest(item.id, item.seal), digest_bytes(item.id), bytes.fromhex(item.seal)
        with self._lock:
            if self._has(key, sealed, names):
                self._count_taken(key, item.size)
                self._heard(item.size)
                return
            self._new[key] = sealed
        try:
            self._send_whole(item, source)
        except BaseException:
            # Not sent: the next try must not take it for taken.
            with self._lock:
                self._new.pop(key)
            raise
        self._heard(item.size)
        with self._lock:
            self._count(item.size, item.size)
            self._sent_loose(Loose(key, sealed, KIND_BLOB, item.size))
            self._step()

    def _send_whole(self, item: Wanted, source: Store) -> None:
        """Upload an object, verified before it goes."""
        if source.is_loose(item.id):
            path = source.loose_path(item.id)
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                before = os.fstat(fd)
                found, total = digest_fd(fd, source.algorithm)
                if found != (item.id, item.seal) or total != item.size:
                    raise mismatch(found, Digest(item.id, item.seal), f"{source.label}: {object_name(item.id)}", source.mending)
                self._store.backend.upload(object_name(item.id), path, self._check_stopped)
                after = os.fstat(fd)
                # Not ctime: another process may link it. A replaced or rewritten object must not be named by the index.
                if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size) or not _is_at(path, after):
                    raise changed_while_reading(path)
            finally:
                os.close(fd)
        else:
            self._store.backend.write(object_name(item.id), source.read(item))

    # Large blobs to a remote

    def _send_chunks(self, item: Wanted, source: Store) -> Sent:
        """Send what the remote lacks of a large blob: cut, hashed and verified in one reading, the recipe last."""
        try:
            return self._send_cut(item, source)
        except BaseException:
            # Threads have ended by now; what they prepared is in no pack.
            with self._lock:
                for chunk in self._unsent:
                    self._new.pop(chunk, None)
                self._unsent.clear()
            raise

    def _send_cut(self, item: Wanted, source: Store) -> Sent:
        key, sealed = digest_bytes(item.id), bytes.fromhex(item.seal)
        self._store.check_recipe_seal(item.id, item.seal)
        if self._left is not None:
            self._left.expect(key, sealed)
        where = f"{source.label}: {object_name(item.id)}"
        hasher = Hasher(source.algorithm)
        chunks: list[Chunk] = []
        total = fresh = 0
        with contextlib.ExitStack() as stack:
            if source.is_loose(item.id):
                path = source.loose_path(item.id)
                try:
                    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                except OSError as error:
                    raise disk_refused(error, "opening an object", path) from None
                stack.callback(os.close, fd)
                fill = from_file(fd)
            else:
                fill = from_pieces(source.stream(item))
            for window in windows(fill):
                # The whole and the chunks are hashed side by side; packs fill meanwhile, in order.
                todo: list[memoryview | None] = [None, *window]

                def work(chunk: memoryview | None, window: list[memoryview] = window) -> _Prepared | None:
                    if chunk is None:
                        for piece in window:
                            hasher.update(piece)
                        return None
                    return self._prepare(chunk)

                for prepared in pool.run(work, todo, workers=LANES):
                    if prepared is None:
                        continue
                    chunks.append(prepared.chunk)
                    total += prepared.chunk.size
                    fresh += prepared.chunk.size if prepared.stored is not None else 0
                    if prepared.stored is not None:
                        key_, sealed_, size = prepared.chunk
                        with self._lock:
                            self._append_frame(key_, sealed_, KIND_CHUNK, prepared.encoding, prepared.stored, size)
                            self._unsent.discard(key_)
                    self._heard(prepared.chunk.size)
        found = hasher.digest()
        if found != (item.id, item.seal) or total != item.size:
            raise mismatch(found, Digest(item.id, item.seal), where, source.mending)
        with self._lock:
            recipe = Recipe(key, sealed, total, packed([(chunk.id, chunk.size) for chunk in chunks], self._id_length))
            # One that was found there may say other chunks.
            if recipe not in self._recipes.get(key, ()):
                data = encode_recipe(total, chunks, self._id_length, xxh128)
                if key in self._recipes:
                    self._disown(key)
                known = self._recipes.setdefault(key, [])
                known.append(recipe)
                try:
                    self._append_frame(key, sealed, KIND_RECIPE, RAW, data, len(data))
                except BaseException:
                    known.remove(recipe)
                    raise
            self._count(item.size, fresh)
        return Sent(total, fresh)

    def _disown(self, key: bytes) -> None:
        """Found packs with a wrong recipe of this blob are not named: what is right in them goes into a pack of ours."""
        from dvcx.io.store.verify import read_frames  # hardly ever needed

        theirs = (key, KIND_RECIPE)
        for pack in [pack for pack in self._finished if any((f.id, f.kind) == theirs for f in pack.info.frames)]:
            self._finished.remove(pack)
            frames = [frame for frame in pack.info.frames if (frame.id, frame.kind) != theirs]
            for frame, data in read_frames(self._store, pack.info.name.hex(), frames):
                if data is None:
                    raise IntegrityError(
                        f"{self._store.label}: {pack_name(pack.info.name.hex())}: an interrupted push left it, and it is damaged",
                        "run dvcx push again; remove the file if that does not help",
                    )
                if frame.kind == KIND_RECIPE:
                    self._append_frame(frame.id, frame.seal, frame.kind, RAW, data, len(data))
                else:
                    self._append(frame.id, frame.seal, frame.kind, data)
        self._recipes.pop(key)

    def _prepare(self, data: memoryview) -> _Prepared:
        """A chunk with its names; to be stored unless the remote or this batch has it."""
        names = digest(data, self._store.algorithm)
        chunk = Chunk(digest_bytes(names.id), bytes.fromhex(names.seal), len(data))
        with self._lock:
            if self._has(chunk.id, chunk.seal, names):
                return _Prepared(chunk, RAW, None)
            self._new[chunk.id] = chunk.seal
            self._unsent.add(chunk.id)
        return _Prepared(chunk, *self._encoded(data))

    # Making it durable, then visible

    def commit(self) -> Summary:
        """Packs and objects first, the index last. Raises `DiskRefused` or `RemoteFailed`; then nothing new is visible.

        Except what became visible in steps before.
        """
        try:
            with self._lock:
                self._flush_held()
                self._close_pack()
                self._show()
        except BaseException:
            self.abort()
            raise
        if self._store.is_cache:
            fresh.freshen(self._store, self._reused)
        return Summary(self._objects, self._bytes, self._stored, self._fresh)

    def _step(self) -> None:
        """Make visible what is finished, when that is much or took long, so that an interruption costs little."""
        limit = STEP if self._store.is_cache else REMOTE_STEP
        if self._unnamed >= limit or (self._unnamed and time.monotonic() - self._named_at >= STEP_SECONDS):
            self._show(all_of_it=self._store.local is not None)

    def _show(self, *, all_of_it: bool = True) -> None:
        while self._closing and (all_of_it or self._closing[0].done):
            self._take(self._closing.pop(0))
        self._barrier()
        self._write_index()
        self._finished, self._loose, self._stamps = [], [], []
        self._indexes = []
        self._unnamed, self._named_at = 0, time.monotonic()

    def _barrier(self) -> None:
        """One barrier for many files: sync all, rename all, sync the directories (design 2.4)."""
        local = self._store.local
        if local is None:
            return
        directories = {os.path.dirname(pack.path) for pack in self._finished if pack.path}
        try:
            if self._pending and self._fsync != "none":
                sync_files([path for path, _, _ in self._pending])
            while self._pending:
                path, name, lock = self._pending[-1]
                os.chmod(path, 0o444)
                move_into(local, path, name)
                self._pending.pop()
                if lock >= 0:
                    os.close(lock)
                directories.add(os.path.dirname(local.path(name)))
            if self._fsync != "none":
                sync_directories(sorted(directories | {os.path.dirname(directory) for directory in directories}))
        except OSError as error:
            raise disk_refused(error, "making objects durable", error.filename or local.path("")) from None
        for item in self._loose if self._store.is_cache else ():
            with contextlib.suppress(OSError):
                path = local.path(object_name(f"{self._store.algorithm}:{item.id.hex()}"))
                self._stamps.append((item.id, item.seal, stamp(os.lstat(path))))
        if self._stamps:
            self._store.catalog.set_verified(self._stamps)

    def _write_index(self) -> None:
        packs = [pack.info for pack in self._finished]
        loose = [] if self._store.is_cache else self._loose
        if not packs and not loose:
            return
        if not self._store.is_cache and self._reused:
            # Chunks, say, that only an older version of a file needed: a collection must not take what is named again.
            looked = self._store.listed_at
            marks.hold(self._store, self._reused, unnamed=self._unnamed_reused)
            if self._store.listed_at != looked:
                self._known = None  # of before that collection
        inside = {frame.id for pack in packs for frame in pack.frames if frame.kind == KIND_RECIPE} if self._recipes else ()
        recipes = tuple(recipe for key in inside for recipe in self._recipes.get(key, ()))
        for part in split_index(IndexContent(packs, loose, recipes), self._id_length, MAX_INDEX):
            data = encode_index(part, self._id_length, xxh128)
            name = f"index/{seal(data).hex()}.index"
            self._indexes.append(name)
            self._store.backend.write(name, data)
            self._store.catalog.learn(name, *part)
        self._store.remember_loose(loose)
        self._unnamed_reused.clear()
        if self._left is not None:
            self._left.named()

    def abort(self) -> None:
        """Drop what is not visible yet. Packs sent to a remote, which no index names, stay: the next writer may name them."""
        self._stopped.set()
        until = time.monotonic() + pool.GRACE
        for closing in self._closing:
            if self._store.local is None:
                closing.forget(until - time.monotonic())  # an upload may hang in a network that is gone
                continue
            with contextlib.suppress(BaseException):
                self._finished.append(closing.result())
        self._closing = []
        if self._pack is not None:
            self._pack.drop()
            self._pack = None
        # When only the sync after it failed, the index is there, and its packs are visible.
        local = self._store.local
        named = not self._store.is_cache or any(local is not None and os.path.lexists(local.path(name)) for name in self._indexes)
        for pack in self._finished if not named else ():
            with contextlib.suppress(OSError):
                # Another writer of the same pack may have put its own there, and may be naming it right now.
                if pack.inode and os.lstat(pack.path).st_ino == pack.inode:
                    os.unlink(pack.path)
        self._finished = []
        for path, _, lock in self._pending:
            if lock >= 0:
                os.close(lock)
                continue
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._pending = []
        for path in self._made:
            # Most were renamed long ago.
            with contextlib.suppress(OSError):
                os.unlink(path)
        if self._left is not None:
            self._left.close()


def fresh_bytes(item: Wanted, source: Store, store: Store, known: set[str]) -> int:
    """How many bytes of a loose blob of `source` a writer of `store` would send; `known` collects the ids of its chunks."""
    path = source.loose_path(item.id)
    fresh = 0
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError as error:
        raise disk_refused(error, "opening an object", path) from None
    try:
        for window in windows(from_file(fd)):
            sizes = {name_of(chunk, store.algorithm): len(chunk) for chunk in window}
            sizes = {name: size for name, size in sizes.items() if name not in known}
            here = store.have(sizes)
            fresh += sum(size for name, size in sizes.items() if name not in here)
            known.update(sizes)
    finally:
        os.close(fd)
    return fresh


class _Finished(NamedTuple):
    """A pack in its place. Of a local one the path, and the inode of the file when nothing stood there before (else 0)."""

    info: PackInfo
    path: str = ""
    inode: int = 0


class _Pending(NamedTuple):
    """A file that becomes an object at the next barrier. `lock` holds a partial one, which stays if it does not come to that."""

    path: str
    name: str
    lock: int = -1


class _Prepared(NamedTuple):
    """A chunk and the bytes of its frame; None when it is on the remote already."""

    chunk: Chunk
    encoding: int
    stored: bytes | memoryview | None


def _outside(data: bytes | None) -> tuple[bytes, bool] | None:
    return (data, False) if data is not None else None


def _reap(directory: str, older: float) -> None:
    """Remove files nobody touched for so many seconds."""
    before = time.time() - older
    with contextlib.suppress(OSError), os.scandir(directory) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < before:
                    os.unlink(entry.path)


def _is_at(path: str, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(path), found)
    except OSError:
        return False


def _may_be_linked(found: os.stat_result) -> bool:
    """An object is read-only for all its names: not for a file that is executable or has other names already."""
    return found.st_nlink == 1 and not found.st_mode & 0o111


def _link(source: tuple[str, int], path: str, fd: int) -> bool:
    """Give the open file another name in the store; False where that cannot be (other file system, no hard links)."""
    name, directory = source
    try:
        os.link(name, path, src_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP):
            return False
        raise
    if os.lstat(path).st_ino != os.fstat(fd).st_ino:
        raise DiskRefused(f"{display(name)}: it was replaced while it was read", "run it again")
    return True


def _give_up(path: str, fd: int, mode: int) -> None:
    """Take back a temporary name, and the mode the file had before it was linked."""
    with contextlib.suppress(OSError):
        os.unlink(path)
    with contextlib.suppress(OSError):
        if stat.S_IMODE(os.fstat(fd).st_mode) != stat.S_IMODE(mode):
            os.fchmod(fd, stat.S_IMODE(mode))


def _write_at(fd: int, data: bytes | memoryview, offset: int) -> None:
    view = memoryview(data)
    while view:
        done = os.pwrite(fd, view, offset)
        view, offset = view[done:], offset + done


def _reflink(source: int, target: int) -> bool:
    """FICLONE: share the blocks of a whole file where the file system can (btrfs, xfs, bcachefs)."""
    import fcntl

    try:
        fcntl.ioctl(target, 0x40049409, source)
    except OSError:
        return False
    return True
