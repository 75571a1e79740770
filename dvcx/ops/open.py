"""open: read a tracked file of any revision as a stream, from the cache or a remote, without checking anything out."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Any, Literal, overload

from dvcx.core.changes import ReadTree
from dvcx.core.objects import DIR, LINK, Content, Entry
from dvcx.core.paths import contains
from dvcx.errors import DvcxError, NoProject, NotFound, UsageError, display
from dvcx.events import ignore
from dvcx.io.store.store import Store, Wanted, wanted
from dvcx.ops import records
from dvcx.ops.looking import entry_at

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from dvcx.io.git import Git
    from dvcx.project import Project

BUFFER = 1 << 20
_MODES = ("r", "rt", "rb")
# What git takes for the address of another machine: a URL, or user@host:path.
_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[^/@:\s]+@[^/:\s]+:").match


@overload
def open(
    path: str, *, repo: str = ".", rev: str = "", remote: str = "", mode: Literal["rb"] = "rb", encoding: None = None
) -> io.BufferedReader: ...
@overload
def open(
    path: str, *, repo: str = ".", rev: str = "", remote: str = "", mode: Literal["r", "rt"], encoding: str | None = None
) -> io.TextIOWrapper: ...


def open(
    path: str, *, repo: str = ".", rev: str = "", remote: str = "", mode: str = "rb", encoding: str | None = None
) -> IO[Any]:
    """The file `path` as it was recorded at the git revision `rev` (now, without one), to be read as a stream.

    `path` is relative to `repo`: a directory in a project, or the URL of a git repository whose root is a project. It may
    lie inside a tracked directory. Bytes come from the cache, else from `remote` (the default one); only this file, and
    the listings on the way to it, are read. The last bytes are given only when all of them were verified, so whatever is
    read to its end is right; a read raises `IntegrityError` otherwise. Text (`mode` "r") is UTF-8 unless `encoding` says
    else. Raises `NotFound`, `UsageError` for a directory, `RemoteFailed`. Use it in a `with` statement.
    """
    if mode not in _MODES or (mode == "rb" and encoding is not None):
        raise UsageError(f"mode '{display(mode)}' with encoding {encoding!r}", "use mode='rb', or mode='r' for text")
    project, tracked_path, commit = _project(repo, path, rev)
    sources = Sources(project, remote)
    try:
        entry = _entry(project, sources, tracked_path, commit)
        raw = _Stream(sources, sources.stream(wanted(entry), tracked_path), tracked_path)
    except BaseException:
        sources.close()
        raise
    reader = io.BufferedReader(raw, BUFFER)
    return reader if mode == "rb" else io.TextIOWrapper(reader, encoding=encoding or "utf-8")


class _Stream(io.RawIOBase):
    """Pieces of bytes as a raw file; closing it gives the stores back."""

    def __init__(self, sources: Sources, pieces: Iterator[bytes], name: str) -> None:
        self.name = name
        self._sources = sources
        self._pieces = pieces
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer) -> int:
        view = memoryview(buffer).cast("B")
        while not self._left:
            piece = next(self._pieces, None)
            if piece is None:
                return 0
            self._left = memoryview(piece)
        count = min(len(view), len(self._left))
        view[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def close(self) -> None:
        if not self.closed:
            self._sources.close()
        super().close()


class Sources:
    """The stores to ask, in order: the cache, then the remote, which is connected to only when it is needed."""

    def __init__(self, project: Project, remote: str) -> None:
        self._project = project
        self._name = remote
        self._detached = project.git is not None and project.git.git_dir == project.git.top
        self._cache = project.cache(ignore)
        self._remote: Store | None = None

    def close(self) -> None:
        self._cache.close()
        if self._remote is not None:
            self._remote.close()
            self._remote = None

    def prefer(self, name: str) -> None:
        """The remote a pointer names is asked, unless the caller named one."""
        self._name = self._name or name

    def trees(self) -> ReadTree:
        def read(path: str, content: Content) -> list[Entry]:
            return self._having(wanted(content), path).read_tree(content)

        return read

    def stream(self, item: Wanted, path: str) -> Iterator[bytes]:
        return self._having(item, path).stream(item)

    def _having(self, item: Wanted, path: str) -> Store:
        if not self._cache.missing([item]):
            return self._cache
        if self._remote is None:
            self._remote = self._connect(item, path)
        if self._remote.missing([item]):
            raise NotFound(
                f"{display(path)}: object {item.id} is neither in the cache nor on {self._remote.label}",
                "push it from where it was made, or name another remote: remote=NAME",
            )
        return self._remote

    def _connect(self, item: Wanted, path: str) -> Store:
        config = self._project.config
        if not self._name and not config.remotes():
            raise NotFound(
                f"{display(path)}: object {item.id} is not in the cache, and the project has no remote",
                "dvcx remote add -d NAME URL",
            )
        name = self._project.remote_name(self._name)
        url = config.remote(name)["url"]
        if self._detached and "://" not in url and not os.path.isabs(url):
            raise UsageError(
                f"remote '{name}' is the directory {display(url)} beside a work tree, and there is no work tree here",
                "clone the repository where that directory can be reached, and name the clone",
            )
        return self._project.remote(name, ignore)


def _entry(project: Project, sources: Sources, path: str, commit: str) -> Entry:
    tracked = records.load(project, commit)
    contents = tracked.contents()
    owner = next((known for known in contents if contains(known, path)), "")
    if not owner:
        if any(contains(path, known) for known in contents):
            raise UsageError(f"{display(path)} is a directory", "name one of the files in it")
        raise records.not_tracked(tracked, path)
    if owner in tracked.pointers:
        sources.prefer(tracked.pointers[owner][1].remote)
    entry = entry_at(sources.trees(), owner, contents[owner], path)
    if entry is None:
        raise NotFound(f"{display(path)} is not in '{display(owner)}' as recorded", f"dvcx list {display(owner)}")
    if entry.kind == DIR:
        raise UsageError(f"{display(path)} is a directory", "name one of the files in it")
    if entry.kind == LINK:
        raise UsageError(f"{display(path)} is a symbolic link", "name the file it points to")
    return entry


def _project(repo: str, path: str, rev: str) -> tuple[Project, str, str]:
    """The project, the path in it, and the commit ("" for the records in the work tree)."""
    from dvcx.io import git
    from dvcx.project import open_project

    if os.path.isdir(repo):
        try:
            project = open_project(repo)
        except NoProject:
            if not git.is_bare(repo):
                raise
            return _cloned(os.path.realpath(repo), path, rev)
        return project, project.relpath(repo, path), rev
    if _ADDRESS(repo):
        return _cloned(repo, path, rev)
    raise NotFound(f"{display(repo)}: there is no such directory", "name a project's directory, or the URL of its git repository")


# Projects that are only reached by the URL of their git repository


@dataclass(frozen=True, slots=True)
class _Place:
    """Where dvcx keeps a clone of a repository it reads from, and the cache and memories that belong to it."""

    git: str
    cache: str
    state: str
    projects: str


def _cloned(url: str, path: str, rev: str) -> tuple[Project, str, str]:
    from dvcx.core.paths import check_path
    from dvcx.io import configfile, files, git
    from dvcx.project import open_project

    place = _place(url)
    files.private_directory(os.path.dirname(place.git))
    known = os.path.isdir(place.git)
    clone = git.clone_bare(url, place.git)
    commit = _resolved(clone, rev) if known else ""
    if known and not commit:
        git.fetch(clone)
    commit = commit or git.resolve(clone, rev or "HEAD")
    committed = git.read_at(clone, commit, [configfile.COMMITTED_FILE]).get(configfile.COMMITTED_FILE)
    if committed is None:
        raise NoProject(
            f"{display(url)} is no dvcx project at {commit[:12]}: it has no {configfile.COMMITTED_FILE} at its root",
            "if the project is in a subdirectory, clone the repository and name that directory",
        )
    root = f"{place.projects}/{commit}"
    os.makedirs(f"{root}/.dvcx", exist_ok=True)
    files.atomic_write(f"{root}/{configfile.COMMITTED_FILE}", committed)
    project = replace(open_project(root), git=clone, state_dir=place.state, cache_dir=place.cache)
    return project, check_path(path, "path"), commit


def _resolved(clone: Git, rev: str) -> str:
    """The commit when `rev` is its full name and it is here: then nothing has to be fetched."""
    from dvcx.io import git

    if len(rev) not in (40, 64):
        return ""
    try:
        found = git.resolve(clone, rev)
    except DvcxError:
        return ""
    return found if found == rev else ""


def _place(url: str) -> _Place:
    import platformdirs

    from dvcx.io.hashing import seal

    base = f"{platformdirs.user_cache_dir('dvcx', appauthor=False)}/repositories/{seal(url.encode()).hex()[:32]}"
    return _Place(f"{base}/git", f"{base}/cache", f"{base}/state", f"{base}/projects")
