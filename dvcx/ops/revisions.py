"""Files as they are in the workspace, or were at revisions: from git, or from the cache and remotes by their record."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

from dvcx.core.metrics import UNCHANGED, Difference, Value, Values, compare, plain
from dvcx.core.objects import DIR, LINK, Content
from dvcx.core.paths import contains, several
from dvcx.core.records import is_record
from dvcx.errors import DvcxError, NotFound, UnsafeInput, UsageError, amount, display
from dvcx.io import files, git
from dvcx.ops import records
from dvcx.ops.looking import entry_at

if TYPE_CHECKING:
    from dvcx.ops.open import Sources
    from dvcx.ops.records import Tracked
    from dvcx.project import Project

WORKSPACE = "workspace"
MISSING, BROKEN = "missing", "broken"
# So much of what was read is kept for the next revision, which mostly has the same.
_REMEMBERED = 64 << 20
# So many digits of a commit's name stand for it where it has no other.
_SHORT = 12


@dataclass(frozen=True, slots=True)
class Problem:
    """What could not be read: the file `path` ("" is all) at `rev` ("" is the workspace), why, and how to repair it.

    `kind` is missing or broken.
    """

    rev: str
    path: str
    kind: str
    message: str
    hint: str


@dataclass(frozen=True, slots=True)
class FileValues:
    """The values of one file, by dotted key."""

    path: str
    values: dict[str, Value]


@dataclass(frozen=True, slots=True)
class RevisionValues:
    """The values at one revision ("" is the workspace), by file. `commit` is its full name."""

    rev: str
    commit: str
    files: tuple[FileValues, ...]


@dataclass(frozen=True, slots=True)
class ValuesShown:
    """Values of every file asked for, revision by revision, and what could not be read."""

    revisions: tuple[RevisionValues, ...]
    problems: tuple[Problem, ...]


@dataclass(frozen=True, slots=True)
class ValuesCompared:
    """What differs from revision `a` to `b` ("" is the workspace), key by key, and what could not be read."""

    a: str
    b: str
    differences: tuple[Difference, ...]
    problems: tuple[Problem, ...]


Found = bytes | DvcxError | None
"""The bytes of a file, why they cannot be had, or None where there is no such file."""


class View:
    """All records at one revision, or of the workspace, and the files they speak of."""

    def __init__(self, views: Views, rev: str, commit: str, tracked: Tracked) -> None:
        self.rev = rev
        self.commit = commit
        self.tracked = tracked
        self._views = views
        self._contents = tracked.contents()

    def read(self, paths: Iterable[str], limit: int) -> dict[str, Found]:
        """Every one of `paths` (in the project); none may be larger than `limit`."""
        wanted = list(dict.fromkeys(paths))
        if not self.rev:
            with files.Reader(self._views.project.root) as reader:
                return {path: self._workspace(reader, path, limit) for path in wanted}
        return {path: self._recorded(path, limit) for path in wanted}

    def below(self, path: str) -> list[str] | None:
        """The files in the directory `path`, sorted; None when it is none. Hidden ones, and dvcx's own, are left out."""
        if not self.rev:
            return _directory(self._views.project.root, path)
        owner = self.owner(path)
        if not owner:
            names = self._views.snapshots().files(self.commit, path)
            return _visible(path, names) if names else None
        trees = self._views.sources().trees()
        entry = entry_at(trees, owner, self._contents[owner], path)
        if entry is None or entry.kind != DIR:
            return None
        from dvcx.core.changes import files_below

        return _visible(path, [name for name, _ in files_below(path, entry, trees)])

    def owner(self, path: str) -> str:
        """The recorded path that is, or holds, `path`; "" when none does."""
        while path and path not in self._contents:
            path = path.rpartition("/")[0]
        return path

    def _workspace(self, reader: files.Reader, path: str, limit: int) -> Found:
        try:
            return reader.read(path, limit)
        except UnsafeInput as error:
            inside = _inside(self._views.project, path)
            if not inside:
                return error
            return files.read_record(self._views.project.cache_dir, inside, limit)
        except DvcxError as error:
            return error

    def _recorded(self, path: str, limit: int) -> Found:
        owner = self.owner(path)
        try:
            if not owner:
                return self._views.snapshots().read(self.commit, path, limit)
            return self._views.recorded(owner, self._contents[owner], path, limit)
        except DvcxError as error:
            return error


class Views:
    """Opens views of a project. A context manager: leaving it closes the stores that were asked."""

    def __init__(self, project: Project, remote: str = "") -> None:
        self.project = project
        self._remote = remote
        self._sources: Sources | None = None
        self._snapshots: git.Snapshots | None = None
        self._past: records.Past | None = None
        self._memory: dict[str, bytes] = {}
        self._size = 0

    def __enter__(self) -> Views:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._sources is not None:
            self._sources.close()
        if self._snapshots is not None:
            self._snapshots.close()

    def at(self, rev: str) -> View:
        """The view of `rev`; "" is the workspace. Raises what reading its records raises."""
        if not rev:
            return View(self, "", "", records.load(self.project))
        if self.project.git is None:
            raise NotFound(f"there is no revision '{display(rev)}': the project is not in a git repository", "git init")
        return self._view(rev, git.resolve(self.project.git, rev))

    def all(self, revisions: Sequence[str], problems: list[Problem]) -> Iterator[View]:
        """The views of several revisions, one after the other. Of more than one, what cannot be read is a problem."""
        for rev in revisions:
            try:
                view = self.at(rev)
            except NotFound:
                raise
            except DvcxError as error:
                if len(revisions) == 1:
                    raise
                problems.append(Problem(rev, "", BROKEN, error.message, error.hint))
                continue
            yield view

    def commits(self, most: int, problems: list[Problem]) -> Iterator[View]:
        """The views of every commit that HEAD, a branch or a tag reaches, newest first; of `most`, when that is not 0."""
        if self.project.git is None:
            raise NotFound("there are no commits: the project is not in a git repository", "git init")
        for commit in git.commits(self.project.git, most):
            rev = commit[:_SHORT]
            try:
                view = self._view(rev, commit)
            except DvcxError as error:
                problems.append(Problem(rev, "", BROKEN, error.message, error.hint))
                continue
            yield view

    def _view(self, rev: str, commit: str) -> View:
        if self._past is None:
            self._past = records.Past(self.project, self.snapshots())
        return View(self, rev, commit, self._past.at(commit, rev))

    def snapshots(self) -> git.Snapshots:
        """The files in git, of any commit."""
        if self._snapshots is None:
            assert self.project.git is not None
            self._snapshots = git.Snapshots(self.project.git)
        return self._snapshots

    def sources(self) -> Sources:
        """The cache, and behind it the remote."""
        if self._sources is None:
            from dvcx.ops.open import Sources

            self._sources = Sources(self.project, self._remote)
        return self._sources

    def recorded(self, owner: str, content: Content, path: str, limit: int) -> bytes | None:
        """The bytes of `path` in the tracked path `owner` that has `content`; None when nothing is there."""
        from dvcx.io.store.store import wanted

        sources = self.sources()
        entry = entry_at(sources.trees(), owner, content, path)
        if entry is None:
            return None
        if entry.kind in (DIR, LINK):
            raise UsageError(f"{display(path)} is {'a directory' if entry.kind == DIR else 'a symbolic link'}", "name a file")
        if entry.size > limit:
            raise UnsafeInput(f"{display(path)}: it is larger than {amount(limit)}", "keep less in it")
        if entry.id not in self._memory:
            data = b"".join(sources.stream(wanted(entry), path))
            if self._size + len(data) > _REMEMBERED:
                return data
            self._size += len(data)
            self._memory[entry.id] = data
        return self._memory[entry.id]


def revisions(
    project: Project, named: Sequence[str], *, all_branches: bool = False, all_tags: bool = False
) -> tuple[str, ...]:
    """The revisions asked for, each once. All branches or tags come after the workspace; without any: the workspace."""
    if not (all_branches or all_tags):
        return tuple(dict.fromkeys(map(plain_name, named))) or ("",)
    if project.git is None:
        raise NotFound("there are no branches or tags: the project is not in a git repository", "git init")
    found = [*(git.names_of(project.git, "refs/heads") if all_branches else ())]
    found += git.names_of(project.git, "refs/tags") if all_tags else ()
    return tuple(dict.fromkeys(["", *map(plain_name, named), *found]))


def plain_name(rev: str) -> str:
    """A revision as it is called here: "" for the word workspace."""
    return "" if rev == WORKSPACE else rev


def values(
    view: View,
    paths: Iterable[str],
    load: Callable[[bytes, str], Values],
    limit: int,
    problems: list[Problem],
    *,
    silent: Collection[str] = (),
) -> dict[str, Values]:
    """The values of files by path, each as `load` reads its bytes. What is not there, except `silent`, or broken is a problem."""
    found: dict[str, Values] = {}
    prefix = f"{view.rev}:" if view.rev else ""
    for path, data in view.read(paths, limit).items():
        if data is None:
            if path not in silent:
                problems.append(missing(view, path))
            continue
        try:
            if isinstance(data, DvcxError):
                raise data
            found[path] = load(data, prefix + path)
        except DvcxError as error:
            problems.append(Problem(view.rev, path, BROKEN, error.message, error.hint))
    return found


def missing(view: View, path: str) -> Problem:
    """The problem of a file that is not there."""
    if view.rev:
        message, hint = f"{display(path)} is not at {display(view.rev)}", "git log -- PATH shows when it came"
    else:
        message, hint = f"{display(path)} is not in the workspace", "dvcx pull, or dvcx repro, may bring it"
    return Problem(view.rev, path, MISSING, message, hint)


def check_found(targets: Sequence[str], found: Collection[str], problems: Iterable[Problem], *, here: bool = False) -> None:
    """Raises `NotFound` for a target that is nowhere, which was `here` alone; what is broken somewhere is told as a problem."""
    somewhere = {*found, *(item.path for item in problems if item.kind == BROKEN)}
    for target in targets:
        if not any(contains(target, path) for path in somewhere):
            hint = "check the spelling with ls; --rev REV looks at a revision" if here else "name a file's path in the project"
            where = "not in the workspace" if here else "at none of the revisions asked for"
            raise NotFound(f"{display(target)} is {where}", hint)


class Asked(NamedTuple):
    """The revisions that are asked for: those named, and all branches, tags or commits, with the workspace first.

    `limit` is how many commits, the newest; 0 is all of them.
    """

    named: Sequence[str] = ()
    all_branches: bool = False
    all_tags: bool = False
    all_commits: bool = False
    limit: int = 0


def shown(
    project: Project, asked: Asked, targets: Sequence[str], remote: str, look: Callable[[View, list[Problem]], dict[str, Values]]
) -> ValuesShown:
    """What `look` finds at every revision asked for, which are opened one after the other.

    Of all commits those that have nothing are left out, and so is what is missing at one.
    """
    problems: list[Problem] = []
    with Views(project, remote) as views:
        named = revisions(project, several(asked.named), all_branches=asked.all_branches, all_tags=asked.all_tags)
        if asked.all_commits and "" not in named:
            named = ("", *named)
        found = [_values_at(view, look(view, problems)) for view in views.all(named, problems)]
        for view in views.commits(asked.limit, problems) if asked.all_commits else ():
            there = _values_at(view, look(view, problems))
            if there.files:
                found.append(there)
    if asked.all_commits:
        problems = [one for one in problems if one.kind != MISSING or not one.rev]
    here = not any(asked)
    check_found(targets, {file.path for one in found for file in one.files}, problems, here=here)
    return ValuesShown(tuple(found), tuple(dict.fromkeys(problems)))


def _values_at(view: View, found: Mapping[str, Values]) -> RevisionValues:
    return RevisionValues(view.rev, view.commit, _files(found))


def _files(found: Mapping[str, Values]) -> tuple[FileValues, ...]:
    return tuple(FileValues(path, {key: plain(value) for key, value in found[path].items()}) for path in sorted(found))


def compared(
    a: str,
    b: str,
    old: Mapping[str, Values],
    new: Mapping[str, Values],
    problems: Sequence[Problem],
    *,
    all: bool,
    directions: Mapping[str, Mapping[str, str]] | None = None,
) -> ValuesCompared:
    """The differences of two sets of files, with `directions` of metrics. A file one side has and cannot give is left out."""
    broken = {item.path for item in problems if item.kind == BROKEN}
    rows = [
        row
        for path in sorted({*old, *new})
        if path not in broken
        for row in compare(path, old.get(path), new.get(path), None if directions is None else directions.get(path, {}))
        if all or row.state != UNCHANGED
    ]
    finite = [replace(row, old=plain(row.old), new=plain(row.new)) for row in rows]
    told = [item for item in problems if item.kind == BROKEN or item.path not in {*old, *new}]
    return ValuesCompared(a, b, tuple(finite), tuple(told))


def _inside(project: Project, path: str) -> str:
    """Where in the cache the link at `path` leads, "" when it leads elsewhere."""
    with contextlib.suppress(OSError, ValueError):
        target = os.path.realpath(os.path.join(project.root, path))
        cache = os.path.realpath(project.cache_dir)
        if contains(cache, target) and target != cache:
            return target[len(cache) + 1 :]
    return ""


_MOST_FILES = 10_000


def _directory(root: str, path: str) -> list[str] | None:
    top = os.path.join(root, path)
    if os.path.islink(top) or not os.path.isdir(top):
        return None
    found: list[str] = []
    for here, directories, names in os.walk(top):
        directories[:] = sorted(name for name in directories if not name.startswith("."))
        inside = os.path.relpath(here, root).replace(os.sep, "/")
        found += [f"{inside}/{name}" for name in names]
        if len(found) > _MOST_FILES:
            break
    return _visible(path, found)


def _visible(path: str, names: Iterable[str]) -> list[str]:
    """Those of `names`, files below `path`, that are neither hidden nor records of dvcx; sorted."""
    inside = ((name, name[len(path) + 1 :]) for name in names if not is_record(name))
    shown = sorted(name for name, below in inside if not any(part.startswith(".") for part in below.split("/")))
    if len(shown) > _MOST_FILES:
        raise UnsafeInput(f"{display(path)}: more than {_MOST_FILES:,} files", "name the files to show")
    return shown
