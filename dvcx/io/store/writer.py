"""Writing into a store: small objects become packs or loose files, an index names them last. Nothing is visible before that."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

from dvcx.core.objects import ALGORITHMS, Digest, digest_bytes
from dvcx.core.packing import (
    BATCH,
    KIND_BLOB,
    KIND_TREE,
    PACK_SIZE,
    RAW,
    SMALL,
    ZSTD,
    Frame,
    IndexContent,
    Loose,
    PackInfo,
    encode_index,
    pack_header,
    pack_tail,
)
from dvcx.errors import DiskRefused, IntegrityError, disk_refused, display
from dvcx.io.hashing import BUFFER, Hasher, changed_while_reading, digest_fd, mismatch, seal, unchanged, xxh128
from dvcx.io.store import fresh
from dvcx.io.store.local import LocalBackend
from dvcx.io.store.store import Store, Wanted, object_name, pack_name, stamp

FLUSH = 1 << 20
HELD = 32 << 20
NOT_COMPRESSED = 256
IN_FLIGHT = 4
"""So many full packs may be on their way at once."""
ASK_SINGLY = 500
"""So many questions to the catalog cost as much as reading all of it at once."""


class Summary(NamedTuple):
    """What a commit made visible: new objects, their bytes, and the bytes really written or sent."""

    objects: int
    bytes: int
    stored: int


class Writer:
    """A batch of new objects for one store. Use as a context manager; leaving it with an error drops what was prepared.

    `put` may be called from several threads. `commit` makes everything durable, then visible.
    """

    def __init__(
        self,
        store: Store,
        scratch: str,
        *,
        packing: bool = True,
        compress: bool = False,
        fsync: str = "batch",
        advanced: Callable[[int], None] | None = None,
    ) -> None:
        self._store = store
        self._scratch = store.local.path("packs") if store.local is not None else scratch
        self._reused: set[bytes] = set()
        if store.is_cache:
            # A collection may have moved things since the store was opened; now the lock keeps it away.
            store.sync(again=True)
        self._packing = packing
        self._compress = compress
        self._compressor: Any = None
        self._fsync = fsync
        self._advanced = advanced
        self._lock = threading.Lock()
        self._new: dict[bytes, bytes] = {}
        self._known: dict[bytes, bytes] | None = None
        self._directories: set[str] | None = None
        self._asked = 0
        self._held: list[tuple[Digest, int, bytes]] = []
        self._held_bytes = 0
        self._packed = False
        self._pack: _OpenPack | None = None
        self._closing: list[_Closing] = []
        self._finished: list[_Finished] = []
        self._index = ""
        self._loose: list[Loose] = []
        self._pending: list[tuple[str, str]] = []
        self._stamps: list[tuple[bytes, bytes, str]] = []
        self._bytes = 0
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

    # What is already there

    def has(self, names: Digest) -> bool:
        """Whether the store or this batch holds the object. Raises `IntegrityError` for the same id with another seal."""
        return self._has(digest_bytes(names.id), bytes.fromhex(names.seal), names)

    def _has(self, key: bytes, sealed: bytes, names: Digest) -> bool:
        found = self._new.get(key)
        if found is None:
            found = self._in_store(key, names.id)
            if found is None:
                return False
            if self._store.is_cache and len(self._reused) <= fresh.MANY:
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
            self._directories = self._store.loose_directories() if self._store.is_cache else set()
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

    # Taking objects in

    def put(self, names: Digest, data: bytes, *, tree: bool = False) -> bool:
        """Take a small object; False when it is there already."""
        key, sealed = digest_bytes(names.id), bytes.fromhex(names.seal)
        with self._lock:
            if self._has(key, sealed, names):
                return False
            self._new[key] = sealed
            self._bytes += len(data)
            kind = KIND_TREE if tree else KIND_BLOB
            if self._packed and len(data) < SMALL:
                self._append(key, sealed, kind, data)
            else:
                self._place(names, kind, data)
            return True

    def replace(self, names: Digest, data: bytes) -> None:
        """Take a good copy of an object whose copy in the store is corrupt: it stands alone, whatever its size."""
        with self._lock:
            self._write_loose(names, KIND_BLOB, data)

    def _place(self, names: Digest, kind: int, data: bytes) -> None:
        if len(data) >= SMALL or not self._packing:
            self._write_loose(names, kind, data)
        else:
            self._held.append((names, kind, data))
            self._held_bytes += len(data)
            if len(self._held) >= BATCH:
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
        if self._pack is None:
            if self._store.local is not None:
                self._store.local.make_directories("packs/x")
            self._pack = _OpenPack(self._scratch, ALGORITHMS[self._store.algorithm])
        encoding, stored = self._encoded(data)
        self._pack.append(key, sealed, kind, encoding, stored, len(data))
        if self._pack.size >= PACK_SIZE:
            self._close_pack()

    def _encoded(self, data: bytes) -> tuple[int, bytes]:
        if not self._compress or len(data) < NOT_COMPRESSED:
            return RAW, data
        if self._compressor is None:
            import zstandard

            self._compressor = zstandard.ZstdCompressor(level=3)
        stored = self._compressor.compress(data)
        return (ZSTD, stored) if len(stored) * 10 <= len(data) * 9 else (RAW, data)

    def _close_pack(self) -> None:
        pack, self._pack = self._pack, None
        if pack is not None:
            if len(self._closing) >= IN_FLIGHT:
                # A slow remote must not fill the disk with packs that wait for it.
                self._finished.append(self._closing.pop(0).result())
            # Durable while the next pack fills: a disk takes its time.
            self._closing.append(_Closing(lambda: self._finish(pack)))

    def _finish(self, pack: _OpenPack) -> _Finished:
        info = pack.finish(sync=self._fsync != "none")
        name = pack_name(info.name.hex())
        if self._store.local is not None:
            target = self._store.local.path(name)
            try:
                inode = 0 if os.path.lexists(target) else os.lstat(pack.path).st_ino
                _move(self._store.local, pack.path, name)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(pack.path)
                raise
            return _Finished(info, target, inode)
        try:
            self._store.backend.upload(name, pack.path, self._advanced or (lambda count: None))
        finally:
            with contextlib.suppress(OSError):
                os.unlink(pack.path)
        return _Finished(info)

    def _write_loose(self, names: Digest, kind: int, data: bytes) -> None:
        self._loose.append(Loose(digest_bytes(names.id), bytes.fromhex(names.seal), kind, len(data)))
        self._stored += len(data)
        if self._store.local is None:
            self._store.backend.write(object_name(names.id), data)
            if self._advanced is not None:
                self._advanced(len(data))
            return
        path = self.temporary()
        try:
            fd = _create(path)
        except OSError as error:
            raise disk_refused(error, "writing an object", path) from None
        # From here on `abort` takes the file away.
        self._pending.append((path, object_name(names.id)))
        try:
            _write_all(fd, data)
            if self._fsync == "full":
                os.fsync(fd)
        except OSError as error:
            raise disk_refused(error, "writing an object", path) from None
        finally:
            os.close(fd)

    def temporary(self) -> str:
        """A fresh name for a file on its way into the local store."""
        assert self._store.local is not None
        self._store.local.make_directories("objects/x")
        return f"{self._store.local.path('objects')}/tmp-dvcx-{secrets.token_hex(8)}"

    # Large files into a local store

    def ingest(self, fd: int, where: str, *, link_path: tuple[str, int] | None = None) -> tuple[Digest, int]:
        """Take in a file of any size through its open descriptor: hashed in the read that copies it, or linked.

        `link_path` (name, directory descriptor) puts the file itself into the store as a hard link. Gives names and length.
        Raises `DiskRefused` when the file changes meanwhile (three tries).
        """
        mode = os.fstat(fd).st_mode
        for _ in range(3):
            path = self.temporary()
            try:
                before = os.fstat(fd)
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
                raise disk_refused(error, "copying it into the cache", where) from None
            except BaseException:
                _give_up(path, fd, mode)
                raise
        raise changed_while_reading(where)

    def _adopt(self, names: Digest, path: str, size: int) -> None:
        with self._lock:
            if self.has(names):
                os.unlink(path)
                return
            key, sealed = digest_bytes(names.id), bytes.fromhex(names.seal)
            self._new[key] = sealed
            self._bytes += size
            self._stored += size
            self._loose.append(Loose(key, sealed, KIND_BLOB, size))
            assert self._store.local is not None
            self._pending.append((path, object_name(names.id)))

    def _hash_linked(self, fd: int) -> tuple[Digest, int]:
        os.fchmod(fd, 0o444)
        return digest_fd(fd, self._store.algorithm, self._advanced)

    def _copy(self, fd: int, path: str, size: int) -> tuple[Digest, int]:
        target = _create(path)
        try:
            if _reflink(fd, target):
                os.lseek(target, 0, os.SEEK_SET)
                return digest_fd(target, self._store.algorithm, self._advanced)
            hasher = Hasher(self._store.algorithm)
            buffer = bytearray(BUFFER)
            view = memoryview(buffer)
            total = 0
            while got := os.readv(fd, [buffer]):
                piece = view[:got]
                hasher.update(piece)
                _write_all(target, piece)
                total += got
                if self._advanced is not None:
                    self._advanced(got)
                if total > size:
                    break
            return hasher.digest(), total
        finally:
            os.close(target)

    def receive(self, item: Wanted, source: Store) -> None:
        """Take a large object from another store, streamed; verified before it can become visible."""
        if self._store.local is None:
            self._send(item, source)
            return
        path = self.temporary()
        target = _create(path)
        try:
            try:
                for piece in source.stream(item):
                    _write_all(target, piece)
                    if self._advanced is not None:
                        self._advanced(len(piece))
            finally:
                os.close(target)
            self._adopt(Digest(item.id, item.seal), path, item.size)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise disk_refused(error, "writing an object", path) from None
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(path)
            raise

    def _send(self, item: Wanted, source: Store) -> None:
        if source.is_loose(item.id):
            path = source.loose_path(item.id)
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                before = os.fstat(fd)
                found, total = digest_fd(fd, source.algorithm)
                if found != (item.id, item.seal) or total != item.size:
                    raise mismatch(found, Digest(item.id, item.seal), f"{source.label}: {object_name(item.id)}")
                self._store.backend.upload(object_name(item.id), path, self._advanced or (lambda count: None))
                after = os.fstat(fd)
                # Not ctime: another process may link it. A replaced or rewritten object must not be named by the index.
                if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size) or not _is_at(path, after):
                    raise changed_while_reading(path)
            finally:
                os.close(fd)
        else:
            self._store.backend.write(object_name(item.id), source.read(item))
        with self._lock:
            self._new[digest_bytes(item.id)] = bytes.fromhex(item.seal)
            self._bytes += item.size
            self._stored += item.size
            self._loose.append(Loose(digest_bytes(item.id), bytes.fromhex(item.seal), KIND_BLOB, item.size))

    # Making it durable, then visible

    def commit(self) -> Summary:
        """Packs and objects first, the index last. Raises `DiskRefused` or `RemoteFailed`; then nothing new is visible."""
        try:
            with self._lock:
                self._flush_held()
                self._close_pack()
                for closing in self._closing:
                    self._finished.append(closing.result())
                self._closing = []
                self._barrier()
                self._write_index()
        except BaseException:
            self.abort()
            raise
        fresh.freshen(self._store, self._reused)
        stored = self._stored + sum(pack.info.size for pack in self._finished)
        return Summary(len(self._new), self._bytes, stored)

    def _barrier(self) -> None:
        """One barrier for many files: sync all, rename all, sync the directories (design 2.4)."""
        local = self._store.local
        if local is None:
            return
        directories = {os.path.dirname(pack.path) for pack in self._finished}
        try:
            if self._pending and self._fsync != "none":
                _sync_files([path for path, _ in self._pending])
            while self._pending:
                path, name = self._pending[-1]
                os.chmod(path, 0o444)
                _move(local, path, name)
                self._pending.pop()
                directories.add(os.path.dirname(local.path(name)))
            if self._fsync != "none":
                for directory in sorted(directories | {os.path.dirname(directory) for directory in directories}):
                    _sync_directory(directory)
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
        data = encode_index(IndexContent(packs, loose), ALGORITHMS[self._store.algorithm], xxh128)
        self._index = f"index/{seal(data).hex()}.index"
        self._store.backend.write(self._index, data)
        self._store.catalog.learn(self._index, packs, loose)
        self._store.remember_loose(loose)

    def abort(self) -> None:
        """Drop what is not visible yet. Packs sent to a remote, which no index names, stay: spare bytes, not wrong ones."""
        for closing in self._closing:
            with contextlib.suppress(BaseException):
                self._finished.append(closing.result())
        self._closing = []
        if self._pack is not None:
            self._pack.drop()
            self._pack = None
        # When only the sync after it failed, the index is there, and its packs are visible.
        named = self._index and self._store.local is not None and os.path.lexists(self._store.local.path(self._index))
        for pack in self._finished if not named else ():
            with contextlib.suppress(OSError):
                # Another writer of the same pack may have put its own there, and may be naming it right now.
                if pack.inode and os.lstat(pack.path).st_ino == pack.inode:
                    os.unlink(pack.path)
        self._finished = []
        for path, _ in self._pending:
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._pending = []


class _Finished(NamedTuple):
    """A pack in its place. Of a local one the path, and the inode of the file when nothing stood there before (else 0)."""

    info: PackInfo
    path: str = ""
    inode: int = 0


class _OpenPack:
    """A pack being written to a temporary file; buffered, its BLAKE3 computed on the way."""

    def __init__(self, directory: str, id_length: int) -> None:
        self.path = f"{directory}/tmp-dvcx-{secrets.token_hex(8)}"
        self._id_length = id_length
        self._frames: list[Frame] = []
        self._buffer: list[bytes] = []
        self._buffered = 0
        self._hasher = _pack_hasher()
        try:
            os.makedirs(directory, exist_ok=True)
            self._fd = _create(self.path)
        except OSError as error:
            raise disk_refused(error, "writing a pack", self.path) from None
        self.size = 0
        self._push(pack_header(id_length))

    def append(self, object_id: bytes, sealed: bytes, kind: int, encoding: int, stored: bytes, size: int) -> None:
        self._frames.append(Frame(object_id, sealed, kind, encoding, self.size, len(stored), size))
        self._push(stored)

    def _push(self, data: bytes) -> None:
        self._buffer.append(data)
        self._buffered += len(data)
        self.size += len(data)
        if self._buffered >= FLUSH:
            self._flush()

    def _flush(self) -> None:
        data = b"".join(self._buffer)
        self._buffer, self._buffered = [], 0
        self._hasher.update(data)
        try:
            _write_all(self._fd, data)
        except OSError as error:
            self.drop()
            raise disk_refused(error, "writing a pack", self.path) from None

    def finish(self, *, sync: bool) -> PackInfo:
        self._push(pack_tail(self._frames, self._id_length, xxh128))
        try:
            self._flush()
            if sync:
                os.fsync(self._fd)
            if os.fstat(self._fd).st_size != self.size:
                raise DiskRefused(f"{self.path}: it has not the length that was written", "check the disk")
            os.fchmod(self._fd, 0o444)
        except OSError as error:
            self.drop()
            raise disk_refused(error, "making a pack durable", self.path) from None
        except BaseException:
            self.drop()
            raise
        os.close(self._fd)
        self._fd = -1
        return PackInfo(self._hasher.digest(), self.size, self._frames)

    def drop(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        with contextlib.suppress(OSError):
            os.unlink(self.path)


class _Closing:
    """Work in a thread of its own, whose result or error is asked for later."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self._value = work()
        except BaseException as error:
            self._error = error

    def result(self) -> Any:
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._value


def _is_at(path: str, found: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.lstat(path), found)
    except OSError:
        return False


def _pack_hasher() -> Any:
    from blake3 import blake3

    return blake3()


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


def _create(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def _write_all(fd: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _move(local: LocalBackend, path: str, name: str) -> None:
    """Rename a finished file to its name in a local store; the directories on the way are made, and are no links."""
    target = local.path(name)
    local.make_directories(name)
    try:
        os.rename(path, target)
    except OSError as error:
        raise disk_refused(error, "putting an object in place", target) from None


def _sync_files(paths: list[str]) -> None:
    """fsync many files; above 32 one sync of their file system instead, which is what many small files want."""
    if len(paths) > 32 and _sync_file_system(os.path.dirname(paths[0])):
        return
    for path in paths:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def _sync_file_system(directory: str) -> bool:
    import ctypes
    import sys

    if sys.platform != "linux":
        return False
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.syncfs(fd) != 0:
            code = ctypes.get_errno()
            raise OSError(code, os.strerror(code), directory)
        return True
    except AttributeError:
        return False
    finally:
        os.close(fd)


def _sync_directory(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _reflink(source: int, target: int) -> bool:
    """FICLONE: share the blocks of a whole file where the file system can (btrfs, xfs, bcachefs)."""
    import fcntl

    try:
        fcntl.ioctl(target, 0x40049409, source)
    except OSError:
        return False
    return True
