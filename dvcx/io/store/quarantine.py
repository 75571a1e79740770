"""Moving what was found corrupt out of the way, within its store: nothing is deleted, nothing is overwritten."""

from __future__ import annotations

import contextlib
import os
import secrets

from dvcx.errors import disk_refused
from dvcx.io.store.backend import Backend
from dvcx.io.store.local import LocalBackend

IN_MEMORY = 64 << 20


def quarantine(backend: Backend, name: str, scratch: str) -> str:
    """Move the file `name` of a store into its quarantine; its name there.

    A rename in a directory; elsewhere a copy, of large files through a file in the directory `scratch`, and then a delete.
    """
    if not isinstance(backend, LocalBackend):
        target = preserve(backend, name, scratch)
        backend.delete(name)
        return target
    target = _free_name(backend, name)
    backend.make_directories(target)
    try:
        os.rename(backend.path(name), backend.path(target))
    except OSError as error:
        raise disk_refused(error, "moving it to quarantine", backend.path(name)) from None
    return target


def preserve(backend: Backend, name: str, scratch: str) -> str:
    """Keep the bytes of the file `name` in the store's quarantine, while it stays where it is; its name there.

    For what is about to be written anew under the same name.
    """
    target = _free_name(backend, name)
    if isinstance(backend, LocalBackend):
        backend.make_directories(target)
        try:
            os.link(backend.path(name), backend.path(target), follow_symlinks=False)
        except OSError:
            backend.upload(target, backend.path(name))
        return target
    size = backend.size(name) or 0
    if size <= IN_MEMORY:
        backend.write(target, backend.read(name))
    else:
        _copy(backend, name, target, size, scratch)
    return target


def _free_name(backend: Backend, name: str) -> str:
    while True:
        target = f"quarantine/{name.replace('/', '-')}-{secrets.token_hex(2)}"
        taken = os.path.lexists(backend.path(target)) if isinstance(backend, LocalBackend) else backend.size(target) is not None
        if not taken:
            return target


def _copy(backend: Backend, name: str, target: str, size: int, scratch: str) -> None:
    path = f"{scratch}/tmp-dvcx-{secrets.token_hex(8)}"
    try:
        try:
            with open(path, "xb") as file:
                for piece in backend.stream(name, size):
                    file.write(piece)
        except OSError as error:
            raise disk_refused(error, "copying it on its way to quarantine", path) from None
        backend.upload(target, path)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(path)
