"""The projects that use a cache outside of them: roots/<16 hex>.json in it, so that no project's gc takes what another needs."""

from __future__ import annotations

import contextlib
import os

from dvcx.core.collecting import Root, decode_root, encode_root
from dvcx.errors import DvcxError, NotFound, disk_refused, display
from dvcx.io.files import atomic_write, read_record
from dvcx.io.hashing import seal

MAX_ROOT = 64 << 10


def register(cache_dir: str, root: str, *, shared: bool, git: bool = False) -> None:
    """Note in the cache that the project at `root` (absolute) uses it; that it was in `git` once is never forgotten."""
    name = record_name(root)
    known = None
    with contextlib.suppress(DvcxError):
        known = read_record(cache_dir, f"roots/{name}", MAX_ROOT)
        git = git or (known is not None and decode_root(known, name).git)
    data = encode_root(Root(root, os.uname().nodename, git))
    if known == data:
        return
    directory = f"{cache_dir}/roots"
    try:
        os.makedirs(directory, exist_ok=True)
        if shared:
            with contextlib.suppress(PermissionError):  # somebody else made it
                os.chmod(directory, 0o2775)
    except OSError as error:
        raise disk_refused(error, "registering the project", directory) from None
    atomic_write(f"{directory}/{name}", data, mode=0o644, keep_mode=False)


def record_name(root: str) -> str:
    """The name of a project's record in roots/."""
    return f"{seal(os.fsencode(root)).hex()[:16]}.json"


def registered(cache_dir: str) -> list[Root]:
    """All projects that use the cache. Raises `NotFound` for one that is not there, `IntegrityError` for a record."""
    directory = f"{cache_dir}/roots"
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise disk_refused(error, "listing the projects that use this cache", directory) from None
    found = []
    for name in names:
        if not name.endswith(".json"):
            continue
        data = read_record(cache_dir, f"roots/{name}", MAX_ROOT)
        if data is None:
            continue
        root = decode_root(data, f"{directory}/{name}")
        if not os.path.isfile(f"{root.path}/.dvcx/config.toml"):
            raise NotFound(
                f"the project {display(root.path)} (of {display(root.host)}) uses this cache and is not there: what it needs is "
                "not known",
                f"mount it or run gc where it is; when it is gone for good: rm '{display(directory)}/{name}'",
            )
        found.append(root)
    return found
