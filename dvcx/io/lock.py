"""Locks between processes: flock on a file whose text names the holder. The kernel frees them when a holder dies."""

from __future__ import annotations

import errno
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from dvcx.errors import Busy, UnsafeInput, disk_refused, display

_TELL_AFTER = 0.5
_NOTE_AT_MOST = 1024
_SAFE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_UNSUPPORTED = frozenset({errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL})

# (thread, device, inode) of what this process holds: a second `hold` of the same file would wait for itself forever. The
# value tells whether it is held shared.
_held: dict[tuple[int, int, int], bool] = {}


class NoLocks(Busy):
    """The file system has no locks: waiting would not help."""


@contextmanager
def hold(
    path: str,
    *,
    command: str,
    timeout: float,
    shared: bool = False,
    waiting: Callable[[str], None] = lambda message: None,
    mode: int = 0,
) -> Iterator[None]:
    """Hold the lock file at `path` while the block runs; make it and its directory (0700) when missing.

    Waits up to `timeout` seconds (0: not at all) and tells `waiting` once, after half a second, who is in the way.
    `shared` holders exclude only holders that are not. Raises `Busy` naming the holder when time is up, and when the file
    system has no locks. A thread that holds it already may hold it shared once more; otherwise holding it twice in one
    thread is a bug and raises RuntimeError. `mode` is that of a lock file made here, whatever the umask.
    """
    if shared and is_held(path):
        yield
        return
    handle, key = _acquire(path, timeout, shared, waiting, mode)
    try:
        _sign(handle, command)
        try:
            yield
        finally:
            if not shared:
                _wipe(handle)
    finally:
        _held.pop(key, None)
        # Closing the only descriptor is the release.
        os.close(handle)


def is_held(path: str) -> bool:
    """Whether this thread holds the lock at `path`, in either way."""
    try:
        found = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return (threading.get_ident(), found.st_dev, found.st_ino) in _held


def holder(path: str) -> str:
    """Who holds, or last held, the lock at `path`, in words: "pid 12 on host, running 'dvcx add' for 3 s"."""
    try:
        handle = os.open(path, os.O_RDONLY | _SAFE)
        try:
            note = os.read(handle, _NOTE_AT_MOST).decode("utf-8", "replace")
        finally:
            os.close(handle)
    except OSError:
        note = ""
    facts = dict(line.partition(" ")[::2] for line in note.splitlines())
    try:
        pid, since = int(facts["pid"]), float(facts["since"])
    except (KeyError, ValueError):
        return "another dvcx"
    if not 0 <= since < 1e11:
        return "another dvcx"
    host = facts.get("host", "")
    if host == _host() and not _alive(pid):
        return "another dvcx"
    begun = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(since))
    running = display(facts.get("command", "dvcx"))
    return f"pid {pid} on {display(host)}, running '{running}' for {_age(time.time() - since)} (since {begun})"


def _acquire(
    path: str, timeout: float, shared: bool, waiting: Callable[[str], None], mode: int
) -> tuple[int, tuple[int, int, int]]:
    started = time.monotonic()
    pause = 0.005
    told = False
    while True:
        handle = _open(path, mode)
        try:
            facts = os.fstat(handle)
            key = (threading.get_ident(), facts.st_dev, facts.st_ino)
            if key in _held:
                raise RuntimeError(f"the lock {path} is held by this thread already")
            while not _try(handle, path, shared):
                passed = time.monotonic() - started
                if passed >= timeout:
                    raise _busy(path, timeout)
                if passed >= _TELL_AFTER and not told:
                    told = True
                    waiting(f"waiting up to {_age(timeout)} for {holder(path)}")
                time.sleep(min(pause, timeout - passed))
                pause = min(pause * 1.5, 0.05)
            if _is_at(path, facts):
                _held[key] = shared
                return handle, key
        except BaseException:
            os.close(handle)
            raise
        # Somebody removed the file meanwhile: what we locked guards nothing. Once more, with the new one.
        os.close(handle)


def _open(path: str, mode: int) -> int:
    fresh = bool(mode) and not os.path.lexists(path)
    try:
        try:
            handle = os.open(path, _SAFE | os.O_RDWR | os.O_CREAT, 0o666)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
            handle = os.open(path, _SAFE | os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            if error.errno not in (errno.EACCES, errno.EPERM, errno.EROFS):
                raise
            # Another user's file, or a read-only disk: flock needs no right to write.
            try:
                handle = os.open(path, _SAFE | os.O_RDONLY)
            except FileNotFoundError:
                raise error from None  # what went wrong is that it cannot be made
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise UnsafeInput(f"{display(path)}: the lock file is a symbolic link", f"remove it: rm '{display(path)}'") from None
        raise disk_refused(error, "opening the lock file", path) from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise UnsafeInput(f"{display(path)}: the lock file is not a regular file", f"remove it: rm '{display(path)}'")
    if fresh:
        with suppress(OSError):  # somebody else made it meanwhile
            os.fchmod(handle, mode)
    return handle


def _try(handle: int, path: str, shared: bool) -> bool:
    import fcntl

    try:
        fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        return True
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            raise NoLocks(
                f"{display(path)}: this file system has no locks ({error.strerror}), so another dvcx could not be kept out",
                "move the project to a local disk, or mount this one with locks (NFS: mount -o local_lock=flock)",
            ) from None
        raise disk_refused(error, "locking it", path) from None


def _is_at(path: str, facts: os.stat_result) -> bool:
    try:
        now = os.stat(path, follow_symlinks=False)
    except OSError:
        return False
    return (now.st_dev, now.st_ino) == (facts.st_dev, facts.st_ino)


def _sign(handle: int, command: str) -> None:
    """Write who holds the lock. Only advice for others: a full disk must not stop the command here."""
    line = " ".join(command.split())[:200].encode("utf-8", "replace").decode()
    note = f"pid {os.getpid()}\nhost {_host()}\nsince {time.time():.3f}\ncommand {line}\n".encode()
    try:
        # Some file systems (ext4) write a file out at once that was cut to nothing: what is left over is made blank instead.
        os.pwrite(handle, note.ljust(min(os.fstat(handle).st_size, _NOTE_AT_MOST)), 0)
    except OSError:
        pass


def _wipe(handle: int) -> None:
    try:
        os.pwrite(handle, b"#", 0)
    except OSError:
        pass


def _busy(path: str, timeout: float) -> Busy:
    waited = f" after waiting {_age(timeout)}" if timeout else ""
    return Busy(
        f"the project is busy{waited}: {holder(path)}",
        "wait for it to finish and run the command again; to wait longer: dvcx config set --local core.lock_timeout 3600",
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def _host() -> str:
    return os.uname().nodename if hasattr(os, "uname") else "this host"


def _age(seconds: float) -> str:
    seconds = max(0, int(seconds))
    if seconds < 120:
        return f"{seconds} s"
    if seconds < 7200:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h"
