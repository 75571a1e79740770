"""A backend over any fsspec file system: sftp, smb, webdav, hdfs, memory and what else is installed.

Nothing of fsspec leaves this file: what a file system raises becomes `RemoteFailed`. Its listing cache is off, and its own walk
is not used, because that takes a directory that cannot be listed for an empty one.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from dvcx.errors import DvcxError, NotFound, RemoteFailed, UsageError, display
from dvcx.io.store.backend import (
    OWN_TEMPORARY,
    STALE,
    TEMPORARY,
    Listed,
    Mark,
    capped,
    check_below,
    check_name,
    check_prefix,
    check_range,
    exactly,
    heard,
    ignore_bytes,
    reading,
    short,
    timeout_of,
)

_IN_THE_PATH = ("memory", "local")  # their urls name no host
_PASSING = (
    *(errno.ECONNRESET, errno.ECONNABORTED, errno.ECONNREFUSED, errno.EPIPE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ESHUTDOWN),
    *(errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.EAGAIN, errno.EINTR),
)


class FsspecBackend:
    """The files below a path of an fsspec file system. The contract is `Backend`'s.

    A file is written under a temporary name and moved; where the file system cannot move, it is written in place.
    Options: `timeout`, where the file system has one (sftp).
    """

    def __init__(self, url: str, options: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self._protocol = parts.scheme
        self.url = url.rstrip("/")
        path = unquote(parts.path)
        self._root = (f"/{parts.netloc}{path}" if self._protocol == "memory" else path).rstrip("/")
        self._made: set[str] = set()
        self._moves = True
        self._target = (self._protocol, parts.hostname or "", parts.port, parts.username or "", timeout_of(options))
        self._idle: list[Any] = []  # connections nobody uses at the moment
        self._reached = False
        with self._in_words("connecting", ""), self._connection():
            self._reached = True

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `Backend.list`. Links are neither followed nor listed."""
        pending = [check_prefix(prefix, self.url)]
        while pending:
            directory = pending.pop()
            for name, info in self._entries(directory):
                if info.get("islink") or info.get("type") not in ("file", "directory"):
                    continue
                if info["type"] == "directory":
                    pending.append(name)
                elif not name.rpartition("/")[2].startswith(TEMPORARY):
                    yield Listed(name, int(info["size"]), _modified(info))

    def size(self, name: str) -> int | None:
        """See `Backend.size`."""
        path = self._path(name)
        with self._in_words("looking at", name), self._connection() as system:
            try:
                info = system.info(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
            return int(info["size"]) if info["type"] == "file" else None

    def version(self, name: str) -> str:
        """What tells this version of a file from others, its tag or time, and its size; "" for what has none, or is absent."""
        path = self._path(name)
        with self._in_words("looking at", name), self._connection() as system:
            try:
                info = system.info(path)
            except (FileNotFoundError, NotADirectoryError):
                return ""
        tag, modified = info.get("ETag") or info.get("etag"), _modified(info)
        if info["type"] != "file" or not (tag or modified):
            return ""
        return display(f"etag {tag} {info['size']}" if tag else f"modified {modified:.6f} {info['size']}")

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """See `Backend.read`."""
        check_range(start, length)
        path = self._path(name)
        if start == 0 and length < 0:
            return b"".join(self._chunks(name, Mark()))
        with contextlib.ExitStack() as stack, self._in_words("reading", name):
            system = stack.enter_context(self._connection())
            file = stack.enter_context(system.open(path, "rb", cache_type="none"))
            size = _size(system, path, file)
            if start > size:
                raise short(f"{self.url}/{name}", start, size)
            file.seek(start)
            data = _read(file, start, size - start if length < 0 else min(length, size - start))
        return exactly(data, length, f"{self.url}/{name}")

    def stream(self, name: str, limit: int, mark: Mark | None = None) -> Iterator[bytes]:
        """See `Backend.stream`."""
        self._path(name)
        mark = mark or Mark()
        yield from capped(self._chunks(name, mark), limit, f"{self.url}/{name}", mark)

    def write(self, name: str, data: bytes) -> None:
        """See `Backend.write`."""
        self._place(name, lambda system, target: _fill(system, target, iter([data])), len(data))

    def upload(self, name: str, path: str, emit_bytes: Callable[[int], None] = ignore_bytes) -> None:
        """See `Backend.upload`."""
        raised: list[BaseException] = []
        with reading(path) as source:
            try:
                chunks = heard(source.chunks(), emit_bytes, raised)
                self._place(name, lambda system, target: _fill(system, target, chunks), source.size)
            except RemoteFailed:
                if raised:  # not the store failed but the listener
                    raise raised[0] from None
                raise

    def delete(self, name: str) -> None:
        """See `Backend.delete`."""
        path = self._path(name)
        with self._in_words("deleting", name), self._connection() as system:
            try:
                _remove(system, path)
            except (FileNotFoundError, NotADirectoryError):
                pass

    def clear(self, prefix: str) -> None:
        """See `Backend.clear`. Directories above it that are empty then go too, not the root."""
        prefix = check_below(prefix, self.url)
        pending, directories = [prefix], []
        while pending:
            directories.append(pending.pop())
            for name, info in self._entries(directories[-1]):
                if info.get("type") == "directory" and not info.get("islink"):
                    pending.append(name)
                else:
                    with self._in_words("deleting", name), self._connection() as system:
                        _remove(system, f"{self._root}/{name}")
        while prefix := prefix.rpartition("/")[0]:
            directories.insert(0, prefix)
        self._made.clear()
        for directory in reversed(directories):
            with contextlib.suppress(Exception), self._connection() as system:
                system.rmdir(f"{self._root}/{directory}")

    def move(self, name: str, target: str) -> None:
        """See `Backend.move`. By way of this machine: what file systems call a move is too various."""
        import tempfile

        size = self.size(name)
        if size is None:
            raise NotFound(f"{self.url}/{display(name)} does not exist", "check what the store holds")
        with tempfile.NamedTemporaryFile(prefix="dvcx-") as file:
            for piece in self.stream(name, size):
                file.write(piece)
            file.flush()
            self.upload(target, file.name)
        self.delete(name)

    def reap(self, older: float = STALE) -> int:
        """See `Backend.reap`. What another user left, and may not be deleted, stays."""
        before = time.time() - older
        count = 0
        pending = [""]
        while pending:
            directory = pending.pop()
            for name, info in self._entries(directory):
                if info.get("islink"):
                    continue
                if info.get("type") == "directory":
                    pending.append(name)
                elif name.rpartition("/")[2].startswith(OWN_TEMPORARY) and 0 < _modified(info) < before:
                    with contextlib.suppress(RemoteFailed), self._in_words("deleting", name), self._connection() as system:
                        _remove(system, f"{self._root}/{name}")
                        count += 1
        return count

    def close(self) -> None:
        """See `Backend.close`."""
        while self._idle:
            _hang_up(self._idle.pop())

    @contextlib.contextmanager
    def _connection(self) -> Iterator[Any]:
        """A file system for the use of one thread at a time: paramiko mixes up answers when threads share one."""
        system = self._idle.pop() if self._idle else _connect(*self._target)
        try:
            yield system
        except BaseException as error:
            if isinstance(error, FileNotFoundError | NotADirectoryError | NotFound):
                self._idle.append(system)
            else:  # it is broken, or may still owe an answer
                _hang_up(system)
                if getattr(error, "transient", False) or (isinstance(error, Exception) and _may_pass(error)):
                    self.close()  # the others, which nobody uses, broke with it
            raise
        self._idle.append(system)

    def _path(self, name: str) -> str:
        return f"{self._root}/{check_name(name, self.url)}"

    def _entries(self, directory: str) -> Iterator[tuple[str, dict[str, Any]]]:
        path = f"{self._root}/{directory}" if directory else self._root or "/"
        with self._in_words("listing", directory), self._connection() as system:
            try:
                if system.info(path)["type"] != "directory":
                    return
                found = system.ls(path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return
            above = system._strip_protocol(path).rstrip("/") + "/"
            entries = [(system._strip_protocol(info["name"]).rstrip("/"), info) for info in found]
        for entry, info in entries:
            rest = entry.removeprefix(above)
            yield (f"{directory}/{rest}" if directory else rest), info

    def _chunks(self, name: str, mark: Mark) -> Iterator[bytes]:
        path = self._path(name)
        with contextlib.ExitStack() as stack:
            with self._in_words("reading", name):
                system = stack.enter_context(self._connection())
                file = stack.enter_context(system.open(path, "rb", block_size=4 << 20))
                mark.met(_size(system, path, file), "", f"{self.url}/{name}")
                position = mark.position
                if position:
                    file.seek(position)
            while True:
                with self._in_words("reading", name):
                    chunk = _read(file, position, min(1 << 20, mark.until - position))
                if not chunk:
                    break
                position += len(chunk)
                yield chunk
            if position < mark.until:
                raise short(f"{self.url}/{name}", mark.until, position, transient=True)

    def _place(self, name: str, fill: Callable[[Any, str], None], size: int) -> None:
        final = self._path(name)
        directory = final.rpartition("/")[0]
        target = f"{directory}/{OWN_TEMPORARY}{os.urandom(8).hex()}" if self._moves else final
        with self._in_words("writing", name), self._connection() as system:
            if directory not in self._made:
                _make_directory(system, directory or "/")
                self._made.add(directory)
            try:
                fill(system, target)
                arrived = system.info(target)["size"]
                if arrived != size:
                    raise short(f"{self.url}/{name}", size, arrived, transient=True)
                if target != final:
                    self._move(system, target, final)
            except BaseException:
                with contextlib.suppress(Exception):
                    _remove(system, target)
                raise

    def _move(self, system: Any, temporary: str, final: str) -> None:
        try:
            system.mv(temporary, final)
        except FileExistsError:
            _remove(system, final)
            system.mv(temporary, final)
        except NotImplementedError:
            self._moves = False
            system.pipe_file(final, system.cat_file(temporary))
            _remove(system, temporary)

    @contextlib.contextmanager
    def _in_words(self, doing: str, name: str) -> Iterator[None]:
        try:
            yield
        except DvcxError:
            raise
        except Exception as error:
            raise self._failure(error, doing, name) from None

    def _failure(self, error: Exception, doing: str, name: str) -> DvcxError:
        where = display(f"{self.url}/{name}" if name else self.url)
        if isinstance(error, FileNotFoundError) and doing == "reading":
            return NotFound(f"{where} does not exist", "check what the store holds")
        # The text of a foreign error may repeat what it was given, so only what the system said, or its kind, is told.
        words = error.strerror if isinstance(error, OSError) and error.strerror else ""
        kind = type(error).__name__
        if isinstance(error, ImportError):
            return UsageError(f"{where} needs a package that is not installed", f"install the fsspec package of {self._protocol}")
        if isinstance(error, TimeoutError):
            hint = "check the network, or raise the remote's timeout"
            return RemoteFailed(f"{where}: no answer in time", hint, transient=True)
        if kind in ("AuthenticationException", "BadAuthenticationType", "PasswordRequiredException", "LogonFailure"):
            return RemoteFailed(f"{where}: the login was refused", "check the user's name and key")
        if kind == "SSHException" and "authentication" in str(error):
            return RemoteFailed(f"{where}: no key to log in with", "ssh-add, or name the key in ~/.ssh/config")
        if kind == "SSHException" and "known_hosts" in str(error):
            return RemoteFailed(
                f"{where}: the server is not in ~/.ssh/known_hosts",
                "connect once with ssh to check and accept its key, then run it again",
            )
        if kind == "BadHostKeyException":
            return RemoteFailed(
                f"{where}: the server shows another key than ~/.ssh/known_hosts has",
                "it may be another server: ask who runs it, then ssh-keygen -R HOST and connect once with ssh",
            )
        if isinstance(error, PermissionError):
            return RemoteFailed(f"{where}: permission denied (while {doing} it)", f"allow {doing} there, or use another login")
        reason, transient = display(words) or kind, self._reached and _may_pass(error)
        return RemoteFailed(
            f"{where}: {reason} (while {doing} it)", "check that it can be reached and its permissions", transient=transient
        )


def _connect(protocol: str, host: str, port: int | None, user: str, timeout: float) -> Any:
    """The file system of `protocol`. `ImportError` when a package for it is missing."""
    import fsspec

    options: dict[str, Any] = {"use_listings_cache": False, "skip_instance_cache": True}
    if protocol in _IN_THE_PATH:
        return fsspec.filesystem(protocol, **options)
    if protocol in ("sftp", "ssh"):
        return _connect_sftp(host, port, user, timeout)
    options.update({key: value for key, value in (("host", host), ("port", port), ("username", user)) if value})
    try:
        return fsspec.filesystem(protocol, **options)
    except TypeError:
        raise UsageError(
            f"{protocol}:// remotes need settings that dvcx cannot give them",
            "mount it (rclone mount, sshfs) and use the directory as a remote",
        ) from None


def _connect_sftp(host: str, port: int | None, user: str, timeout: float) -> Any:
    """fsspec's sftp with four repairs: unknown servers are refused, ~/.ssh/config is read, a stall ends after `timeout`,
    and the thread that asks ahead for what is read dies quietly with its connection: who reads is told anyway.
    """
    import paramiko
    from fsspec.implementations.sftp import SFTPFileSystem

    class System(SFTPFileSystem):  # type: ignore[misc]
        def _connect(self) -> None:
            self.client = paramiko.SSHClient()
            self.client.load_system_host_keys()
            self.client.set_missing_host_key_policy(paramiko.RejectPolicy())
            self.client.connect(self.host, **self.ssh_kwargs)
            self.ftp = self.client.open_sftp()
            self.ftp.get_channel().settimeout(timeout)

        def _open(self, *args: Any, **options: Any) -> Any:
            file = super()._open(*args, **options)
            ask_ahead = file._prefetch_thread

            def quietly(*chunks: Any) -> None:
                with contextlib.suppress(Exception):
                    ask_ahead(*chunks)

            file._prefetch_thread = quietly
            return file

    try:
        config = paramiko.SSHConfig.from_path(os.path.expanduser("~/.ssh/config")).lookup(host)
    except OSError:
        config = paramiko.SSHConfigDict()
    waits = dict.fromkeys(("timeout", "banner_timeout", "auth_timeout", "channel_timeout"), timeout)
    named = {
        "port": port or int(config.get("port", "22")),
        "username": user or config.get("user"),
        "key_filename": config.get("identityfile"),
    }
    return System(config.get("hostname", host), skip_instance_cache=True, **waits, **{k: v for k, v in named.items() if v})


def _may_pass(error: Exception) -> bool:
    """Whether the network failed, not what was asked for. paramiko tells a lost connection in several ways."""
    if isinstance(error, ConnectionError | EOFError) or type(error).__name__ in ("SSHException", "NoValidConnectionsError"):
        return True
    return isinstance(error, OSError) and (error.errno in _PASSING or "closed" in str(error) or "dropped" in str(error))


def _hang_up(system: Any) -> None:
    with contextlib.suppress(Exception):
        system.client.close()


def _make_directory(system: Any, path: str) -> None:
    for again in (True, True, False):  # another thread may make one of its parents at the same moment
        try:
            system.makedirs(path, exist_ok=True)
            return
        except OSError:
            if not again:
                raise


def _fill(system: Any, target: str, chunks: Iterator[bytes]) -> None:
    file = system.open(target, "wb")
    if hasattr(file, "set_pipelined"):  # sftp: else it waits for an answer to every 32 KiB
        file.set_pipelined(True)
    try:
        for chunk in chunks:
            file.write(chunk)
    except BaseException:
        with contextlib.suppress(Exception):  # what was written is removed by the caller
            file.close()
        raise
    file.close()


def _read(file: Any, start: int, length: int) -> bytes:
    if not length:
        return b""
    if hasattr(file, "readv"):  # sftp: else it waits for an answer to every 32 KiB
        return b"".join(file.readv([(start, length)]))
    return bytes(file.read(length))


def _size(system: Any, path: str, file: Any) -> int:
    """Bytes in an open file: its own, as the name may lead to another by now."""
    if isinstance(getattr(file, "size", None), int):
        return int(file.size)
    if hasattr(file, "stat"):
        return int(file.stat().st_size)
    return int(system.info(path)["size"])


def _remove(system: Any, path: str) -> None:
    try:
        system.rm_file(path)
    except NotImplementedError:
        system.rm(path)


def _modified(info: Mapping[str, Any]) -> float:
    import datetime

    for key in ("mtime", "modified", "last_modified", "LastModified", "created"):
        value = info.get(key)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, datetime.datetime):
            return value.timestamp()
    return 0.0
