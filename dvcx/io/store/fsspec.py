"""A backend over any fsspec file system: sftp, smb, webdav, hdfs, memory and what else is installed.

Nothing of fsspec leaves this file: what a file system raises becomes `RemoteFailed`. Its listing cache is off, and its own walk
is not used, because that takes a directory that cannot be listed for an empty one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import unquote, urlsplit

from dvcx.errors import DvcxError, NotFound, RemoteFailed, UsageError, display
from dvcx.io.store.backend import (
    OWN_TEMPORARY,
    TEMPORARY,
    Listed,
    capped,
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
        with self._in_words("connecting", ""):
            self._fs = _connect(self._protocol, parts.hostname or "", parts.port, parts.username or "", timeout_of(options))

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
        with self._in_words("looking at", name):
            try:
                info = self._fs.info(path)
            except (FileNotFoundError, NotADirectoryError):
                return None
            return int(info["size"]) if info["type"] == "file" else None

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        """See `Backend.read`."""
        check_range(start, length)
        path = self._path(name)
        if start == 0 and length < 0:
            return b"".join(self._chunks(name))
        with self._in_words("reading", name), self._fs.open(path, "rb", cache_type="none") as file:
            if start > file.size:
                raise short(f"{self.url}/{name}", start, file.size)
            file.seek(start)
            data = bytes(file.read(file.size - start if length < 0 else min(length, file.size - start)))
        return exactly(data, length, f"{self.url}/{name}")

    def stream(self, name: str, limit: int) -> Iterator[bytes]:
        """See `Backend.stream`."""
        self._path(name)
        yield from capped(self._chunks(name), limit, f"{self.url}/{name}")

    def write(self, name: str, data: bytes) -> None:
        """See `Backend.write`."""
        self._place(name, lambda path: self._fs.pipe_file(path, data), len(data))

    def upload(self, name: str, path: str, emit_bytes: Callable[[int], None] = ignore_bytes) -> None:
        """See `Backend.upload`."""
        raised: list[BaseException] = []
        with reading(path) as source:
            try:
                self._place(name, lambda target: self._fill(target, heard(source.chunks(), emit_bytes, raised)), source.size)
            except RemoteFailed:
                if raised:  # not the store failed but the listener
                    raise raised[0] from None
                raise

    def delete(self, name: str) -> None:
        """See `Backend.delete`."""
        path = self._path(name)
        with self._in_words("deleting", name):
            try:
                self._fs.rm_file(path)
            except (FileNotFoundError, NotADirectoryError):
                pass
            except NotImplementedError:
                self._fs.rm(path)

    def close(self) -> None:
        """See `Backend.close`."""
        with contextlib.suppress(Exception):
            client = getattr(self._fs, "client", None)
            if client is not None:
                client.close()

    def _path(self, name: str) -> str:
        return f"{self._root}/{check_name(name, self.url)}"

    def _entries(self, directory: str) -> Iterator[tuple[str, dict[str, Any]]]:
        path = f"{self._root}/{directory}" if directory else self._root or "/"
        with self._in_words("listing", directory):
            try:
                found = self._fs.ls(path, detail=True)
            except (FileNotFoundError, NotADirectoryError):
                return
        above = self._fs._strip_protocol(path).rstrip("/") + "/"
        for info in found:
            entry = self._fs._strip_protocol(info["name"]).rstrip("/")
            if not entry.startswith(above):  # a file was listed: it is below nothing
                continue
            rest = entry[len(above) :]
            yield (f"{directory}/{rest}" if directory else rest), info

    def _chunks(self, name: str) -> Iterator[bytes]:
        path = self._path(name)
        with contextlib.ExitStack() as stack:
            with self._in_words("reading", name):
                file = stack.enter_context(self._fs.open(path, "rb", block_size=4 << 20))
            total = 0
            while True:
                with self._in_words("reading", name):
                    chunk = bytes(file.read(1 << 20))
                if not chunk:
                    break
                total += len(chunk)
                yield chunk
            size = getattr(file, "size", None)
            if isinstance(size, int) and size > total:
                raise short(f"{self.url}/{name}", size, total)

    def _place(self, name: str, fill: Callable[[str], None], size: int) -> None:
        final = self._path(name)
        directory = final.rpartition("/")[0]
        target = f"{directory}/{OWN_TEMPORARY}{os.urandom(8).hex()}" if self._moves else final
        with self._in_words("writing", name):
            if directory not in self._made:
                self._make_directory(directory or "/")
                self._made.add(directory)
            try:
                fill(target)
                arrived = self._fs.info(target)["size"]
                if arrived != size:
                    raise short(f"{self.url}/{name}", size, arrived)
                if target != final:
                    self._move(target, final)
            except BaseException:
                with contextlib.suppress(Exception):
                    self._fs.rm_file(target)
                raise

    def _make_directory(self, path: str) -> None:
        for again in (True, True, False):  # another thread may make one of its parents at the same moment
            try:
                self._fs.makedirs(path, exist_ok=True)
                return
            except OSError:
                if not again:
                    raise

    def _fill(self, target: str, chunks: Iterator[bytes]) -> None:
        file = self._fs.open(target, "wb")
        try:
            for chunk in chunks:
                file.write(chunk)
        except BaseException:
            with contextlib.suppress(Exception):  # what was written is removed by the caller
                file.close()
            raise
        file.close()

    def _move(self, temporary: str, final: str) -> None:
        try:
            self._fs.mv(temporary, final)
        except FileExistsError:
            self._fs.rm_file(final)
            self._fs.mv(temporary, final)
        except NotImplementedError:
            self._moves = False
            self._fs.pipe_file(final, self._fs.cat_file(temporary))
            self._fs.rm_file(temporary)

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
            return RemoteFailed(f"{where}: no answer in time", "check the network, or raise the remote's timeout")
        if kind in ("AuthenticationException", "BadAuthenticationType", "PasswordRequiredException", "LogonFailure"):
            return RemoteFailed(f"{where}: the login was refused", "check the user's name and key")
        if kind == "SSHException" and "known_hosts" in str(error):
            return RemoteFailed(
                f"{where}: the server is not in ~/.ssh/known_hosts",
                "connect once with ssh to check and accept its key, then run it again",
            )
        reason = display(words) or kind
        return RemoteFailed(f"{where}: {reason} (while {doing} it)", "check that it can be reached and its permissions")


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
    """fsspec's sftp with three repairs: unknown servers are refused, ~/.ssh/config is read, a stall ends after `timeout`."""
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


def _modified(info: Mapping[str, Any]) -> float:
    import datetime

    for key in ("mtime", "modified", "last_modified", "LastModified", "created"):
        value = info.get(key)
        if isinstance(value, int | float):
            return float(value)
        if isinstance(value, datetime.datetime):
            return value.timestamp()
    return 0.0
