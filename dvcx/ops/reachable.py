"""What records need, everywhere: workspaces, all of git's history, every project of a shared cache; and the ids of all of it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dvcx.core.objects import DIR, SHARD, TREE, Content, Entry, decode_tree, digest_bytes
from dvcx.core.paths import join, parent
from dvcx.core.pipeline.schema import parse_stages
from dvcx.core.records import MAX_LOCK, POINTER_SUFFIX, LockEntry, decode_lock, decode_pointer
from dvcx.errors import DvcxError, IntegrityError, NotFound, display
from dvcx.events import Advanced, Began, Emit, Ended, Warned
from dvcx.io import files, git, roots
from dvcx.io.git import Git, open_git
from dvcx.io.store.store import Store, Wanted, wanted
from dvcx.ops.records import LOCK, PIPELINE, journal

if TYPE_CHECKING:
    from dvcx.project import Project


@dataclass(slots=True)
class Roots:
    """Objects that records name, each with a place that names it. `foreign` are those of other projects in a repository.

    Of a stage's output nobody can tell from the lock whether it is kept in the cache at all: `outs` holds the locks and paths
    of directories that stages wrote. `shallow` names repositories that lack a part of their history; `skipped` counts
    records that were passed over because `force` said so.
    """

    strict: dict[Wanted, str] = field(default_factory=dict)
    foreign: dict[Wanted, str] = field(default_factory=dict)
    outs: dict[Wanted, set[tuple[str, str]]] = field(default_factory=dict)
    pointed: set[Wanted] = field(default_factory=set)
    pipelines: dict[bytes, str] = field(default_factory=dict)
    shallow: list[str] = field(default_factory=list)
    skipped: int = 0


def find_roots(project: Project, *, history: bool = True, force: bool = False, without: str = "", emit: Emit) -> Roots:
    """Everything that records of this project, and of all that share its cache, name.

    Without `history` only workspaces are looked at, `without` one of them. Raises for anything that cannot be read, naming
    it; `force` passes over unreadable records of this project with a warning, never over those of another one.
    """
    found = Roots()
    emit(Began("reading records"))
    done: set[str] = set()
    for root in (project.root, *other_projects(project)):
        repository = project.git if root == project.root else open_git(root)
        reader = _Reader(found, project.algorithm, force and root == project.root, emit)
        if repository is None:
            if root != without:
                reader.workspace(root, None)
            continue
        if git.is_shallow(repository):
            found.shallow.append(root)
        place = f"{repository.common_dir}\0{repository.prefix}"
        if place in done:
            continue
        done.add(place)
        for top in git.worktrees(repository):
            there = f"{top}/{repository.prefix}" if repository.prefix else top
            if there != without and files_exist(there):
                reader.workspace(there, open_git(there))
        if history:
            reader.history(repository)
    emit(Ended("reading records"))
    return found


def other_projects(project: Project) -> list[str]:
    """Roots of the other projects that use the cache, whosever it is.

    Raises `NotFound` for a project that is not there, or whose git repository is not: then its history is not known.
    """
    found = roots.registered(project.cache_dir)
    for root in found:
        if root.git and open_git(root.path) is None:
            raise NotFound(
                f"the project {display(root.path)} (of {display(root.host)}) uses this cache and is in no git repository any "
                "more: what its history needs is not known",
                f"put its .git back; when that is gone for good: rm '{display(project.cache_dir)}/roots/"
                f"{roots.record_name(root.path)}', then run any dvcx add in the project",
            )
    return [root.path for root in found if root.path != project.root]


def files_exist(root: str) -> bool:
    """Whether there is a directory to look for records in."""
    import os

    return os.path.isdir(root)


class _Reader:
    """Takes records apart; every distinct one once."""

    def __init__(self, found: Roots, algorithm: str, force: bool, emit: Emit) -> None:
        self._found = found
        self._algorithm = algorithm
        self._force = force
        self._emit = emit

    def workspace(self, root: str, repository: Git | None) -> None:
        """The records of a workspace as they are now, staged or not."""
        if repository is not None:
            names = git.record_files(repository)
        else:
            from dvcx.io.discover import find_records

            names = find_records(root)
        with files.Reader(root) as reader:
            for name in names:
                with self._forgiving():
                    data = reader.read(name, MAX_LOCK)
                    if data is not None:
                        self._take(name, data, f"{root}/{name}", foreign=False)
                    if name.rpartition("/")[2] == PIPELINE:
                        self._journal(root, join(parent(name), LOCK), reader)

    def _journal(self, root: str, name: str, reader: files.Reader) -> None:
        """What stages have finished that dvcx.lock does not say yet."""
        state = f"{root}/.dvcx/state"
        entries = journal(state, name, lambda: reader.read(name, MAX_LOCK))
        self._entries(name, entries, f"{root}/{name}", foreign=False)

    def history(self, repository: Git) -> None:
        """The records of all that git holds."""
        blobs = git.record_blobs(repository)
        nested = _nested({path for paths in blobs.values() for path in paths}, repository.prefix)
        here = f"{repository.prefix}/" if repository.prefix else ""
        wanted = [name for name, paths in blobs.items() if not all(path.endswith(".dvcx/config.toml") for path in paths)]
        for name, data in git.read_blobs(repository, wanted):
            for path in sorted(blobs[name]):
                foreign = not path.startswith(here) or (bool(nested) and path.startswith(nested))
                where = f"{path} (git blob {name[:12]}; git log --all --find-object={name[:12]})"
                with self._forgiving(foreign=foreign):
                    self._take(path[len(here) :] if not foreign else path, data, where, foreign=foreign)
            self._emit(Advanced(1))

    @contextlib.contextmanager
    def _forgiving(self, *, foreign: bool = False) -> Iterator[None]:
        """What cannot be read ends the work, unless it may be passed over."""
        try:
            yield
        except DvcxError as error:
            if foreign:
                return
            if not self._force:
                raise type(error)(f"{error.message}; what it needs is not known, so nothing was collected", error.hint) from None
            self._found.skipped += 1
            self._emit(Warned(f"passed over: {error.message}", "what only it names is not kept"))

    def _take(self, path: str, data: bytes, where: str, *, foreign: bool) -> None:
        base = path.rpartition("/")[2]
        if base == PIPELINE:
            if not foreign:
                self._found.pipelines[data] = path
        elif base == LOCK:
            self._entries(path, decode_lock(data, where), where, foreign=foreign)
        elif path.endswith(POINTER_SUFFIX):
            self._found.pointed.add(self._root(decode_pointer(data, where).content, where, foreign=foreign))

    def _entries(self, path: str, entries: Mapping[str, LockEntry], where: str, *, foreign: bool) -> None:
        for entry in entries.values():
            for out, content in entry.outs.items():
                item = self._root(content, where, foreign=foreign)
                if content.kind == TREE:
                    self._found.outs.setdefault(item, set()).add((join(parent(path), PIPELINE), out))

    def _root(self, content: Content, where: str, *, foreign: bool) -> Wanted:
        if not content.id.startswith(self._algorithm + ":"):
            raise IntegrityError(
                f"{where}: names {content.id[:20]}…, and this cache names objects by {self._algorithm}",
                "give the project a cache of its own, or record the data again",
            )
        item = wanted(content)
        (self._found.foreign if foreign else self._found.strict).setdefault(item, where)
        return item


def _nested(paths: Iterable[str], prefix: str) -> tuple[str, ...]:
    """Directories of other projects inside this one, at any time."""
    marker = "/.dvcx/config.toml"
    tops = {path[: -len(marker)] + "/" for path in paths if path.endswith(marker)}
    return tuple(sorted(top for top in tops if top.startswith(f"{prefix}/" if prefix else "") and top != f"{prefix}/"))


# From roots to all that hangs on them


@dataclass(frozen=True, slots=True)
class Asked:
    """A place to read listings from that the cache lacks: opened when it is needed."""

    name: str
    open: Callable[[], Store]


def reach(
    found: Roots, stores: Sequence[Store], others: Sequence[Asked] = (), *, force: bool = False, emit: Emit
) -> tuple[set[bytes], int]:
    """Raw ids of all objects that hang on the roots, and how many listings were passed over.

    Listings are read from the first of `stores` that has them right, then from `others`. Raises `NotFound` or `IntegrityError`
    for one that cannot be read anywhere, unless `force`, or unless nothing says it was ever kept.
    """
    emit(Began("following listings"))
    walker = _Walker(stores, others, stores[0].algorithm, emit)
    try:
        missing = walker.walk(found.strict)
        free = _never_kept(found, missing, force=force)
        lost = {item: where for item, where in missing.items() if item not in free}
        if lost and not force:
            raise walker.error(lost)
        for where in sorted(lost.values()):
            emit(Warned(f"passed over: a listing that {where} needs is nowhere", "what only it names is not kept"))
        walker.walk(found.foreign)
    finally:
        walker.close()
    emit(Ended("following listings"))
    return walker.live, len(lost)


class _Walker:
    def __init__(self, stores: Sequence[Store], others: Sequence[Asked], algorithm: str, emit: Emit) -> None:
        self._algorithm = algorithm
        self.live: set[bytes] = set()
        self._seen: set[Wanted] = set()
        self._stores = list(stores)
        self._others = list(others)
        self._opened: list[Store] = []
        self._emit = emit
        self._errors: dict[Wanted, DvcxError] = {}
        self._refused: list[str] = []

    def close(self) -> None:
        for store in self._opened:
            store.close()

    def walk(self, roots: Mapping[Wanted, str]) -> dict[Wanted, str]:
        """Follow all listings; those that could not be read, with the place that needs them."""
        self.live.update(digest_bytes(item.id) for item in roots)
        level = {item: where for item, where in roots.items() if item.tree and item not in self._seen}
        missing: dict[Wanted, str] = {}
        while level:
            self._seen.update(level)
            below: dict[Wanted, str] = {}
            left = set(level)
            for store in self._stores:
                left -= self._read(store, left, level, below)
            while left and self._others:
                asked = self._others.pop(0)
                try:
                    store = asked.open()
                    self._opened.append(store)
                    left -= self._read(store, left, level, below)
                    self._stores.append(store)
                except DvcxError as error:
                    self._refused.append(f"{asked.name}: {error.message}")
            missing.update({item: level[item] for item in left})
            level = {item: where for item, where in below.items() if item not in self._seen}
        return missing

    def _read(self, store: Store, items: set[Wanted], level: Mapping[Wanted, str], below: dict[Wanted, str]) -> set[Wanted]:
        done: set[Wanted] = set()
        for batch in store.batches(items):
            try:
                for item, data in store.read_batch(batch):
                    self._take(decode_tree(bytes(data), f"{store.label}: tree {item.id}"), level[item], below)
                    done.add(item)
            except DvcxError:
                # One of them is broken: each by itself, so that the others count.
                for item, _ in batch.items:
                    if item not in done:
                        try:
                            self._take(decode_tree(store.read(item), f"{store.label}: tree {item.id}"), level[item], below)
                            done.add(item)
                        except (IntegrityError, NotFound) as error:
                            self._errors[item] = error
            self._emit(Advanced(len(batch.items)))
        return done

    def _take(self, entries: list[Entry], where: str, below: dict[Wanted, str]) -> None:
        # The slice leaves "xxh128:" or "blake3:" out; one call for all digits is what is quick.
        digits = "".join([entry.id[7:] for entry in entries])
        if not entries:
            return
        raw, width = bytes.fromhex(digits), len(entries[0].id[7:]) // 2
        if {entry.id[:7] for entry in entries} != {f"{self._algorithm}:"}:
            raise IntegrityError(f"a listing that {where} needs names objects by another hash", "record the data again")
        self.live.update([raw[at : at + width] for at in range(0, len(raw), width)])
        for entry in entries:
            if entry.kind in (DIR, SHARD):
                below.setdefault(wanted(entry), where)

    def error(self, lost: Mapping[Wanted, str]) -> DvcxError:
        """The error for listings that are nowhere."""
        item, where = min(lost.items(), key=lambda pair: (pair[1], pair[0].id))
        more = f" and {len(lost) - 1:,} more" if len(lost) > 1 else ""
        asked = f" (asked: {'; '.join(self._refused)})" if self._refused else ""
        known = self._errors.get(item)
        hint = "bring it where it can be read: dvcx fetch; or push it from where it was made: dvcx push"
        if known is not None:
            return type(known)(f"{known.message}; {where} needs it, so nothing was collected", known.hint or hint)
        return NotFound(
            f"the listing {item.id}{more}, which {display(where)} needs, is neither in the cache nor on a remote{asked}; "
            "what hangs on it is not known, so nothing was collected",
            f"{hint}; when it is lost for good: dvcx gc --force",
        )


def _never_kept(found: Roots, missing: Mapping[Wanted, str], *, force: bool) -> set[Wanted]:
    """Those of missing listings that only belong to outputs which no version of their stage keeps in the cache."""
    candidates = {item for item in missing if item in found.outs and item not in found.pointed}
    if not candidates:
        return set()
    from dvcx.io import yaml

    kept: set[tuple[str, str]] = set()
    unkept: set[tuple[str, str]] = set()
    unclear: set[str] = set()
    for data, path in found.pipelines.items():
        try:
            stages = parse_stages(yaml.load(data, path), path)
        except DvcxError:
            # It may need parameters of its own revision: what cannot be told was kept.
            if force or b"${" in data:
                unclear.add(path)
                continue
            raise
        for stage in stages:
            for out in stage.outs:
                (kept if out.cache else unkept).add((path, out.path))
    free = unkept - kept
    return {
        item
        for item in candidates
        if all((path, _resolved(path, out)) in free and (force or path not in unclear) for path, out in found.outs[item])
    }


def _resolved(pipeline: str, out: str) -> str:
    from dvcx.core.paths import resolve

    return resolve(parent(pipeline), out, pipeline)
