"""Directories where packs wait for their way to a remote. What a killed command left there is removed by the next."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator

from dvcx.errors import disk_refused
from dvcx.io.files import private_directory

_LOCK = "lock"


@contextlib.contextmanager
def scratch(base: str) -> Iterator[str]:
    """A fresh directory in `base`, gone with the block. Those of processes that are gone are removed first."""
    private_directory(base)
    _reap(base)
    path = f"{base}/push-{secrets.token_hex(8)}"
    held = _make(path)
    try:
        yield path
    finally:
        # The kernel gives the lock back with the descriptor, also when the process is killed.
        _remove(path)
        os.close(held)


def _make(path: str) -> int:
    try:
        os.mkdir(path, 0o700)
        held = os.open(f"{path}/{_LOCK}", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise disk_refused(error, "making a directory for packs", path) from None
    with contextlib.suppress(OSError):
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return held


def _reap(base: str) -> None:
    with contextlib.suppress(OSError):
        for name in os.listdir(base):
            if name.startswith("push-"):
                with contextlib.suppress(OSError):
                    held = os.open(f"{base}/{name}/{_LOCK}", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
                    try:
                        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        _remove(f"{base}/{name}")
                    finally:
                        os.close(held)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        for name in sorted(os.listdir(path), key=lambda name: name == _LOCK):
            os.unlink(f"{path}/{name}")
        os.rmdir(path)
