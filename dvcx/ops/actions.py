"""Results of actions on remotes: those of the lock are sent by a push, those of other clones are found by key."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from dvcx.core.changes import ReadTree
from dvcx.core.objects import TREE, Content, Entry
from dvcx.core.pipeline.schema import Stage
from dvcx.core.records import MAX_LOCK, Action, LockEntry, encode_action, encode_request
from dvcx.core.staleness import recorded_request
from dvcx.errors import DvcxError, IntegrityError, NotFound, RemoteFailed, UnsafeInput, display
from dvcx.events import Emit, Noted, Warned
from dvcx.io import pool
from dvcx.io.hashing import seal
from dvcx.io.store.actions import Kept, keep_action, read_action, write_action
from dvcx.io.store.store import Store, action_name, wanted
from dvcx.ops.fetch import bring_objects
from dvcx.ops.looking import content_at
from dvcx.ops.records import Tracked
from dvcx.ops.transfer import Only, holds, needed

if TYPE_CHECKING:
    from dvcx.project import Project

Taken = TypeVar("Taken")

MANY = 8
"""Above so many keys one listing of what is there is asked for, instead of one question for each."""
PATIENCE = 10.0
"""Seconds without progress after which a remote that is only asked in passing is not asked again."""


def policy(project: Project, remote: str) -> str:
    """What results of actions may do with a remote: off, read or write."""
    return str(project.config.get(f"remote.{remote}.actions"))


# Sending


def sendable(project: Project, tracked: Tracked, contents: Mapping[str, Content], cache: Store, remote: str) -> dict[str, Action]:
    """Results by key that go with the `contents` pushed: the cache knows them, and the lock records the same outputs.

    One that lacks an output which is not pushed, or whose uncached outputs the cache lost, stays here.
    """
    if policy(project, remote) != "write":
        return {}
    found = {}
    for stage in tracked.stages:
        entry = tracked.lock.get(stage.address)
        if entry is None or not _goes_along(stage, entry, contents):
            continue
        key = seal(encode_request(recorded_request(stage, entry))).hex()
        with contextlib.suppress(IntegrityError, UnsafeInput):
            action = read_action(cache.backend, key, cache.label)
            if action is not None and action.outs == entry.outs:
                found[key] = action
    beside = {
        key: [wanted(content) for path, content in action.outs.items() if path not in contents] for key, action in found.items()
    }
    lost = set(cache.missing({item for items in beside.values() for item in items}))
    return {key: action for key, action in found.items() if not lost.intersection(beside[key])}


def _goes_along(stage: Stage, entry: LockEntry, contents: Mapping[str, Content]) -> bool:
    """Whether all outputs of the stage are pushed: those in the cache by themselves, small ones beside them along with these."""
    if not any(out.cache for out in stage.outs) or {out.path for out in stage.outs} != set(entry.outs):
        return False
    for out in stage.outs:
        content = entry.outs[out.path]
        if not out.push or (out.cache and contents.get(out.path) != content) or (not out.cache and content.kind == TREE):
            return False
    return True


def send(project: Project, store: Store, actions: Mapping[str, Action], *, jobs: int, emit: Emit) -> int:
    """Write results to a remote that holds all they name; how many are new there. The first of an action stays, with a note.

    One listing tells what is there; only what this clone did not send, and does not know from an earlier push, is compared.
    """
    if not actions:
        return 0
    there = {item.name for item in store.backend.list("actions")}
    path = f"{project.state_dir}/actions-{store.id}"
    known = _remembered(path)

    def put(action: Action) -> Kept:
        if action_name(action.key) in there:
            return keep_action(store.backend, action, store.label)
        write_action(store.backend, action)
        return Kept(action, True)

    todo = [action for key, action in actions.items() if action_name(key) not in there or key not in known]
    new = 0
    for action, kept in zip(todo, pool.run(put, todo, workers=1 if store.local else jobs), strict=True):
        new += action_name(action.key) not in there
        if not kept.own:
            emit(conflict_note(store.label, action, kept.action))
    _remember(path, {*known, *actions})
    return new


def conflict_note(label: str, ours: Action, theirs: Action) -> Noted:
    """The note for a result that stays although another one came."""
    path = next((path for path in ours.outs if ours.outs[path] != theirs.outs.get(path)), "its output")
    wrote = f"the same command on the same inputs wrote another '{display(path)}' there than here"
    return Noted(f"{label} keeps the result it has: {wrote}")


def keep_here(cache: Store, results: Collection[Action], emit: Emit) -> None:
    """Keep results in the cache, with one barrier. The first of an action stays if the cache holds its outputs, with a note."""
    new = {}
    for action in results:
        there = _kept_here(cache, action.key)
        if there is None:
            new[action_name(action.key)] = encode_action(action)
        elif there.outs != action.outs:
            if holds(cache, there.outs):
                emit(conflict_note("the cache", action, there))
            else:
                new[action_name(action.key)] = encode_action(action)
    if cache.local is not None:
        cache.local.write_many(new.items())


def _kept_here(cache: Store, key: str) -> Action | None:
    try:
        return read_action(cache.backend, key, cache.label)
    except (IntegrityError, UnsafeInput):
        return None


def _remembered(path: str) -> set[str]:
    try:
        with open(path, encoding="ascii") as file:
            return set(file.read(MAX_LOCK).split())
    except (OSError, ValueError):
        return set()


def _remember(path: str, keys: Collection[str]) -> None:
    from dvcx.io.files import atomic_write

    with contextlib.suppress(DvcxError):
        atomic_write(path, "".join(f"{key}\n" for key in sorted(keys)).encode(), mode=0o600, fsync=False)


# Looking up


class Found(NamedTuple):
    """A result that a remote knows."""

    outs: Mapping[str, Content]
    remote: str


class Results:
    """What the remotes know, for one command; safe to use from several threads. A remote is opened when it is first asked.

    One that fails is told once and not asked again. `patient`: it was asked for, so its failure is the answer to all that
    no other remote has. `only` is the one to ask, "" for all.
    """

    def __init__(self, project: Project, *, keys: int, patient: bool, emit: Emit, only: str = "") -> None:
        self._project, self._patient = project, patient
        self._emit: Emit = lambda event: emit(event) if isinstance(event, Noted | Warned) else None
        self._many = keys > MANY
        default = str(project.config.get("core.remote") or "")
        names = [project.remote_name(only)] if only else project.config.remotes()
        self._names = sorted(names, key=lambda name: (name != default, name))
        self._readable = [name for name in self._names if policy(project, name) != "off"]
        self._guard = threading.Lock()
        self._opening = {name: threading.Lock() for name in self._names}
        self._busy = {name: threading.Lock() for name in self._names}
        self._stores: dict[str, Store | None] = {}
        self._failed: dict[str, RemoteFailed] = {}
        self._listed: dict[str, frozenset[str]] = {}

    def close(self) -> None:
        """Let go of the connections."""
        for store in self._stores.values():
            if store is not None:
                store.close()
        self._stores = {}

    def find(self, key: str, outs: Collection[str]) -> Found | None:
        """The result of an action whose outputs are just `outs`; None when no remote that may be read has one that will do."""
        for name in self._readable:
            with self._asked(name) as store:
                found = self._find(store, name, key, outs) if store is not None else None
                if found is not None:
                    return found
        self._answer_for(self._readable)
        return None

    def where(self, contents: Mapping[str, Content], cache: Store) -> str | None:
        """The remote that lists all of `contents` that the cache lacks, "" when it lacks nothing, None when no remote does.

        Of directories the listings are read, no file is.
        """
        if holds(cache, contents):
            return ""
        for name in self._holders:
            with self._asked(name) as store:
                if store is not None:
                    with self._busy[name], contextlib.suppress(NotFound, IntegrityError, UnsafeInput):
                        if not store.missing(cache.missing(needed(contents, cache, store).objects)):
                            return name
        self._answer_for(self._holders)
        return None

    def bring(self, contents: Mapping[str, Content], cache: Store, *, only: Only | None = None) -> str | None:
        """Bring to the cache what `contents`, or a part of them, need: from which remote, "" when it lacked nothing, None when no
        remote has it.

        Every byte is verified; what a remote holds wrong is told. Raises `RemoteFailed`, `DiskRefused`.
        """
        if holds(cache, contents, only=only):
            return ""
        for name in self._holders:
            with self._asked(name) as store:
                if store is None:
                    continue
                try:
                    with self._busy[name]:
                        found = needed(contents, cache, store, only=only)
                        bring_objects(self._project, store, cache, found, self._project.jobs, emit=self._emit)
                    return name
                except NotFound:
                    continue
                except (IntegrityError, UnsafeInput) as error:
                    self._emit(Warned(f"what {store.label} holds was not used: {error.message}"))
        self._answer_for(self._holders)
        return None

    def trees(self, cache: Store) -> ReadTree:
        """Reads directories from the cache, else where they are; nothing is kept."""

        def read(at: str, content: Content) -> list[Entry]:
            found = self._first(cache, lambda store: store.read_tree(content))
            if found is None:
                where = f"the listing of '{display(at)}' ({content.id})"
                raise NotFound(f"{where} is neither in the cache nor on a remote", "push it from where it was made: dvcx push")
            return found

        return read

    def inside(self, owner: str, content: Content, path: str, cache: Store) -> Content | None:
        """What a directory that need not be here has at a path in it."""
        return content_at(self.trees(cache), owner, content, path)

    def read(self, content: Content, cache: Store) -> bytes | None:
        """The bytes of a small file that need not be here; None where nobody has it."""
        return self._first(cache, lambda store: store.read(wanted(content)))

    def _first(self, cache: Store, take: Callable[[Store], Taken]) -> Taken | None:
        """What the cache has, else the first remote that has it."""
        with contextlib.suppress(NotFound):
            return take(cache)
        for name in self._holders:
            with self._asked(name) as store, contextlib.suppress(NotFound, IntegrityError, UnsafeInput):
                if store is not None:
                    with self._busy[name]:
                        return take(store)
        self._answer_for(self._holders)
        return None

    @property
    def _holders(self) -> list[str]:
        """The remotes bytes are taken from: all when they were asked for, else those whose results are looked up."""
        return self._names if self._patient else self._readable

    def _answer_for(self, names: Iterable[str]) -> None:
        """Nothing was found: raise the failure of a remote that may have it, when remotes were asked for."""
        for name in names:
            if self._patient and name in self._failed:
                raise self._failed[name]

    def _find(self, store: Store, name: str, key: str, outs: Collection[str]) -> Found | None:
        if self._many and action_name(key) not in self._listing(store, name):
            return None
        try:
            action = read_action(store.backend, key, store.label)
        except (IntegrityError, UnsafeInput) as error:
            self._emit(Noted(f"a result was passed over: {error.message}"))
            return None
        if action is None:
            return None
        if set(action.outs) != set(outs) or any(not self._fits(content) for content in action.outs.values()):
            problem = "its outputs are not those of the stage"
            self._emit(Noted(f"a result was passed over: {store.label}: {action_name(key)}: {problem}"))
            return None
        return Found(action.outs, name)

    def _fits(self, content: Content) -> bool:
        return content.id.partition(":")[0] == self._project.algorithm

    def _listing(self, store: Store, name: str) -> frozenset[str]:
        with self._opening[name]:
            if name not in self._listed:
                self._listed[name] = frozenset(item.name for item in store.backend.list("actions"))
            return self._listed[name]

    @contextlib.contextmanager
    def _asked(self, name: str) -> Iterator[Store | None]:
        """The store of a remote, None when it is empty or does not answer. A failure of the block ends it quietly."""
        store: Store | None = None
        try:
            store = self._open(name)
        except RemoteFailed as error:
            self._give_up(name, error)
        try:
            yield store
        except RemoteFailed as error:
            self._give_up(name, error)

    def _give_up(self, name: str, error: RemoteFailed) -> None:
        """Tell once that a remote fails, and do not ask it again; its store is closed in the end, for others may use it still."""
        with self._guard:
            told = name in self._failed
            self._failed.setdefault(name, error)
        if not told and not (self._patient and len(self._names) == 1):
            self._emit(Noted(f"remote '{display(name)}' is not asked for results: {error.message}"))

    def _open(self, name: str) -> Store | None:
        with self._opening[name]:
            if name in self._failed:
                return None
            if name not in self._stores:
                store = self._project.remote(name, self._emit, patience=0.0 if self._patient else PATIENCE)
                if not store.id:
                    store.close()
                self._stores[name] = store if store.id else None
            return self._stores[name]
