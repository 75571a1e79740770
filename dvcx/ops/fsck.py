"""fsck: read a store back, name who needs what is not right there, and on request repair it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

from dvcx.core.objects import digest_bytes
from dvcx.errors import DiskRefused, DvcxError, RemoteFailed, UsageError
from dvcx.events import Emit, Warned, ignore
from dvcx.io import git
from dvcx.io.files import private_directory
from dvcx.io.git import Version
from dvcx.io.statindex import StatIndex
from dvcx.io.store.catalog import Catalog
from dvcx.io.store.quarantine import quarantine
from dvcx.io.store.store import Store, Wanted, create_store, object_name, pack_name
from dvcx.io.store.verify import (
    CORRUPT,
    FULL,
    MISSING,
    QUICK,
    SAMPLE,
    TRUNCATED,
    Depth,
    Fault,
    Survey,
    check_store_json,
    condemn,
    survey,
)
from dvcx.ops import naming, records
from dvcx.ops.mending import Lost, Mended, holds, mend
from dvcx.ops.naming import Need, Root

if TYPE_CHECKING:
    from dvcx.project import Project

ABSENT = "absent"
"""A record needs it, and it is not there, with nothing to show that it ever was."""
RECORD = "record"
"""A record cannot be read, or says what is not so."""

SOUND, REPAIRED, DAMAGED, LACKING = "sound", "repaired", "damaged", "lacking"
NAMED = 10
"""A finding tells so many paths that need it."""
ASKED = 50


@dataclass(frozen=True, slots=True)
class NeededBy:
    """Who needs an object: a path, the record that names it, and the branches, tags or commit it is in ("": the workspace)."""

    path: str
    record: str
    revision: str


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not right. `problem` is one word, `file` a name in the store, `object` an id; each may be "".

    `needed` counts who needs it (20 at most), `needed_by` are the first of them. `repaired` says how, "" when it is not;
    `kept` is where in the store the damaged bytes are now. `cached`: it is not on the remote, and the cache has it.
    """

    problem: str
    file: str
    object: str
    text: str
    needed: int
    needed_by: tuple[NeededBy, ...]
    repaired: str = ""
    kept: str = ""
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Checked:
    """What `fsck` found. `mode` full, quick or sample (`share` of the objects, chosen by `seed`); sizes in bytes.

    `verdict`: sound; repaired (all of it); damaged; lacking (nothing is damaged, but a record needs what is not there).
    `notes` tell what is no damage.
    """

    store: str
    mode: str
    share: float
    seed: int
    objects: int
    packs: int
    indexes: int
    objects_read: int
    bytes_read: int
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    verdict: str


def fsck(
    project: Project,
    *,
    remote: str | None = None,
    quick: bool = False,
    sample: float = 0.0,
    seed: int = -1,
    repair: bool = False,
    jobs: int = 0,
    emit: Emit = ignore,
) -> Checked:
    """Check the cache, or a remote: every byte, or only sizes and tables (`quick`), or a `sample` (0.05) of the objects.

    `remote` "" is the default one. `repair` holds the cache alone.

    Raises `RemoteFailed` and `DiskRefused` when a store cannot be asked; damage is a finding.
    """
    if quick and sample:
        raise UsageError("quick and a sample exclude one another", "dvcx fsck --help")
    if not 0 <= sample <= 1:
        raise UsageError("a sample is a share between 0 and 100 %", "dvcx fsck --sample 5%")
    mode = QUICK if quick else SAMPLE if sample else FULL
    chosen = seed if seed >= 0 else secrets.randbits(32)
    depth = Depth(mode, sample or float(not quick), chosen if sample else 0)
    name = project.remote_name(remote) if remote is not None else ""
    if not repair or name:
        with project.cache_reader_lock("dvcx fsck", emit):
            return _check(project, name, depth, repair=repair, jobs=jobs or project.jobs, emit=emit)
    if not os.path.isdir(project.cache_dir):
        project.cache(emit, write=True).close()
    with project.cache_collector_lock("dvcx fsck --repair", emit):
        return _check(project, "", depth, repair=True, jobs=jobs or project.jobs, emit=emit)


def _check(project: Project, remote: str, depth: Depth, *, repair: bool, jobs: int, emit: Emit) -> Checked:
    store, description, kept = _open(project, remote, repair=repair, emit=emit)
    try:
        found = survey(store, depth, jobs=jobs, emit=emit)
        with contextlib.ExitStack() as stack:
            stores = [store]
            if remote:
                stores.append(project.cache(emit))
                stack.callback(stores[1].close)
            others = _Others(project, remote, emit)
            stack.callback(others.close)
            index = project.stat_index(emit)
            stack.callback(index.close)
            case = _Case(project, remote, store, found, *_needs(project, remote, found, stores, others, index))
        _judge(case)
        lacking = _absent(case, emit)
        done = _mend(case, lacking, jobs, emit) if repair and (found.faults or lacking) else None
        findings = _findings(case, lacking, done)
        if description is not None:
            anew = "written anew" if repair else ""
            findings.insert(0, Finding(description.problem, "store.json", "", description.text, 0, (), anew, kept))
        objects = len(found.good) + (len(done.came) if done is not None else 0)
        counts = objects, len(found.packs), len(found.indexes)
        notes = _notes(case)
        verdict = _verdict(findings)
        return Checked(
            *(store.label, depth.mode, depth.share, depth.seed, *counts, found.objects_read, found.bytes_read),
            *(tuple(findings), tuple(notes), verdict),
        )
    finally:
        store.close()


@dataclass(slots=True)
class _Case:
    """What one run knows: needs of objects that are not good, from the workspace and from history."""

    project: Project
    remote: str
    store: Store
    found: Survey
    needs: naming.Needs
    here: frozenset[int]
    broken_records: list[Finding]
    elsewhere: dict[str, list[Wanted]]
    only_history: int = 0
    deviating: dict[Wanted, str] = field(default_factory=dict)
    cached: set[str] = field(default_factory=set)


# Opening what may be damaged


def _open(project: Project, remote: str, *, repair: bool, emit: Emit) -> tuple[Store, Fault | None, str]:
    """The store, what is wrong with its description of itself, and where that is kept after it was written anew."""
    label = f"remote '{remote}'" if remote else "the cache"
    backend = project.remote_backend(remote, emit) if remote else project.cache_backend()
    fault = check_store_json(backend, project.algorithm, label)
    kept = ""
    if fault is not None and not repair:
        catalog = Catalog(":memory:", lambda message: emit(Warned(message)))
        store = Store(backend, catalog, algorithm=project.algorithm, store_id="", label=label, is_cache=not remote)
        return store, fault, ""
    if fault is not None:
        if fault.problem != MISSING:
            kept = quarantine(backend, "store.json", "")
        store_id = (project.met_store(remote) if remote else "") or secrets.token_hex(16)
        record = {"dvcx": 1, "hash": project.algorithm, "id": store_id}
        backend.write("store.json", json.dumps(record).encode() + b"\n")
    backend.close()
    return project.remote(remote, emit) if remote else project.cache(emit), fault, kept


# Who needs what is not right


class _Others:
    """The other remotes, opened when one is asked for the first time; those that do not answer are left out."""

    def __init__(self, project: Project, remote: str, emit: Emit) -> None:
        self._project = project
        self._names = _remotes(project, remote)
        self._emit = emit
        self._open: list[Store] = []

    def __call__(self) -> Iterator[Store]:
        yield from self._open
        while self._names:
            source = _opened(self._project, self._names.pop(0), self._emit)
            if source is not None:
                self._open.append(source)
                yield source

    def close(self) -> None:
        for source in self._open:
            source.close()


def _opened(project: Project, name: str, emit: Emit) -> Store | None:
    """A remote that can be asked, else None with a warning."""
    try:
        source = project.remote(name, emit)
    except DvcxError as error:
        emit(Warned(f"remote '{name}' was not asked: {error.message}", error.hint))
        return None
    try:
        source.sync()
    except DvcxError as error:
        source.close()
        emit(Warned(f"remote '{name}' was not asked: {error.message}", error.hint))
        return None
    return source


def _needs(
    project: Project, remote: str, found: Survey, stores: Sequence[Store], others: _Others, index: StatIndex
) -> tuple[naming.Needs, frozenset[int], list[Finding], dict[str, list[Wanted]]]:
    broken: list[Finding] = []
    try:
        tracked = records.load(project)
        here = naming.in_workspace(tracked)
    except DvcxError as error:
        if isinstance(error, (DiskRefused, RemoteFailed)):
            raise
        broken.append(Finding(RECORD, "", "", f"{error.message}; what it names was not looked for", 0, ()))
        here = []
    if remote:
        here = [root for root in here if _belongs(project, tracked, remote, root)]
    roots = [*here, *naming.in_history(project)]
    bad = {fault.id for fault in found.faults if fault.id and fault.id not in found.good}
    needs = naming.needs(
        roots, lambda item: _is_good(found, item), bad, stores, others, index, lambda item: _deviates(found, item)
    )
    return needs, frozenset(map(id, here)), broken, {}


def _belongs(project: Project, tracked: records.Tracked, remote: str, root: Root) -> bool:
    """Whether a record's data is to be on this remote."""
    if root.path in tracked.pointers:
        pointer = tracked.pointers[root.path][1]
        return pointer.push and pointer.remote in ("", remote)
    stage = tracked.stage_of(root.path)
    return stage is None or all(out.push for out in stage.outs if out.path == root.path)


def _is_good(found: Survey, item: Wanted) -> bool:
    row = found.good.get(digest_bytes(item.id))
    if row is None:
        return False
    return (not row[0] or row[0].hex() == item.seal) and (item.size < 0 or row[1] == item.size)


def _deviates(found: Survey, item: Wanted) -> bool:
    """Whether the object is here and right by its id, with another seal than the record says."""
    row = found.good.get(digest_bytes(item.id))
    return row is not None and bool(row[0]) and row[0].hex() != item.seal


def _judge(case: _Case) -> None:
    """Enter as faults what only records can tell: other seals, other lengths, trees that cannot be used.

    A record that says of an object what other records, or its own bytes, contradict is itself the fault.
    """
    found, store = case.found, case.store
    lengths: dict[bytes, int] = {}
    for item in case.needs.objects:
        key = digest_bytes(item.id)
        lengths.setdefault(key, item.size)
        row = found.good.get(key)
        if row is None:
            continue
        if _deviates(found, item) and item.id in case.needs.confirmed:
            case.deviating[item] = f"it names {item.id} with another seal than other records, and theirs is right"
        elif _deviates(found, item):
            condemn(store, found, key, bytes.fromhex(item.seal), "its BLAKE3 seal is not that of the record which names it")
        elif item.size >= 0 and row[1] != item.size and key in found.loose and not row[0]:
            found.good.drop(key)
            text = f"it has {row[1]} bytes instead of {item.size}"
            found.faults.append(Fault(TRUNCATED, object_name(item.id), text, key, bytes.fromhex(item.seal)))
        elif item.size >= 0 and row[1] != item.size:
            case.deviating[item] = f"it says that {item.id} has {item.size} bytes, and it has {row[1]}"
    for item, text in case.needs.unreadable.items():
        key = digest_bytes(item.id)
        if key in found.good and item not in case.deviating:
            found.good.drop(key)
            found.faults.append(Fault(CORRUPT, _where(case, key), text, key, bytes.fromhex(item.seal)))
    for number, fault in enumerate(found.faults):
        size = lengths.get(fault.id, -1)
        actual = found.loose.get(fault.id, size) if fault.name.startswith("objects/") else size
        if fault.problem == CORRUPT and 0 <= size != actual:
            found.faults[number] = fault._replace(problem=TRUNCATED, text=f"it has {actual} bytes instead of {size}")


def _where(case: _Case, key: bytes) -> str:
    if key in case.found.loose:
        return object_name(f"{case.store.algorithm}:{key.hex()}")
    return next((pack_name(pack) for pack in case.store.catalog.frames([key]) if pack), "")


def _absent(case: _Case, emit: Emit) -> dict[Wanted, str]:
    """Objects that records of the workspace need and that are not here, with what is known of them: these are findings.

    Of the cache only what no remote has: the rest may be fetched when it is wanted, and is counted in `elsewhere`.
    """
    bad = {fault.id for fault in case.found.faults if fault.id}
    absent: dict[Wanted, str] = {}
    for item, users in case.needs.objects.items():
        key = digest_bytes(item.id)
        if key in bad or key in case.found.good:
            continue
        if not any(id(need.root) in case.here for need in users):
            case.only_history += 1
            continue
        spare = key in case.found.spare
        absent[item] = "no index names the pack or file it is in" if spare else ""
    if case.remote:
        with contextlib.closing(case.project.cache(emit)) as cache:
            held = cache.have(item.id for item in absent)
        case.cached = {item.id for item in absent if held.get(item.id) in (b"", bytes.fromhex(item.seal))}
        return {item: text or _not_there(case, item) for item, text in absent.items()}
    for name in _remotes(case.project, "") if absent else ():
        source = _opened(case.project, name, emit)
        if source is None:
            continue
        held = source.have(item.id for item in absent)
        source.close()
        there = [item for item in absent if held.get(item.id, b"").hex() == item.seal]
        if there:
            case.elsewhere[name] = there
        absent = {item: text for item, text in absent.items() if item not in there}
    return {item: text or _nowhere(case, item) for item, text in absent.items()}


def _not_there(case: _Case, item: Wanted) -> str:
    return f"it is not on {case.store.label}{'; the cache has it' if item.id in case.cached else ''}"


def _nowhere(case: _Case, item: Wanted) -> str:
    for path in _paths(case, item):
        if holds(case.project, path, Lost(item.id, item.seal, item.size, item.tree)):
            return "neither the cache nor a remote has it; the workspace does"
    return "neither the cache nor a remote has it"


def _paths(case: _Case, item: Wanted) -> list[str]:
    return [need.path for need in case.needs.objects.get(item, ()) if id(need.root) in case.here]


def _remotes(project: Project, but: str) -> list[str]:
    """The remotes to ask, the default one first."""
    default = str(project.config.get("core.remote") or "")
    return sorted((name for name in project.config.remotes() if name != but), key=lambda name: (name != default, name))


# Repairing


def _mend(case: _Case, lacking: Mapping[Wanted, str], jobs: int, emit: Emit) -> Mended:
    project, store = case.project, case.store
    if not store.id:
        create_store(store, project.state_dir, lambda message: emit(Warned(message)))
    lost: dict[bytes, Lost] = {}
    for fault in case.found.faults:
        if fault.id and fault.id not in case.found.good:
            lost[fault.id] = Lost(f"{store.algorithm}:{fault.id.hex()}", fault.seal.hex())
    # Of one id that records name with several seals the last of these wins.
    for item in sorted((*case.needs.objects, *lacking), key=lambda item: _credit(case, lost, item)):
        key = digest_bytes(item.id)
        if key in lost or item in lacking:
            lost[key] = Lost(item.id, item.seal, item.size, item.tree, _paths(case, item))

    def sources() -> Iterator[Store]:
        if case.remote:
            yield project.cache(emit)
        for name in _remotes(project, case.remote):
            source = _opened(project, name, emit)
            if source is not None:
                yield source

    scratch = f"{project.state_dir}/tmp"
    private_directory(scratch)
    compress = bool(case.remote) and project.compresses(case.remote)
    return mend(project, store, case.found, lost, sources, jobs=jobs, compress=compress, scratch=scratch, emit=emit)


def _credit(case: _Case, lost: Mapping[bytes, Lost], item: Wanted) -> tuple[bool, bool, int]:
    """How much speaks for the seal a record says: the store says it too, the workspace does, so many need it."""
    known = lost.get(digest_bytes(item.id))
    return known is not None and known.seal == item.seal, bool(_paths(case, item)), len(case.needs.objects.get(item, ()))


# The answer


def _findings(case: _Case, lacking: Mapping[Wanted, str], done: Mended | None) -> list[Finding]:
    users: dict[bytes, list[Need]] = {}
    for item, needs in case.needs.objects.items():
        users.setdefault(digest_bytes(item.id), []).extend(needs)
    told = [*(fault.id for fault in case.found.faults if fault.id in users), *(digest_bytes(item.id) for item in lacking)]
    needed = [*chain.from_iterable(case.needs.objects[item] for item in case.deviating)]
    names = _revisions(case, [*needed, *(need for key in told[:ASKED] for need in users[key])])
    algorithm = case.store.algorithm
    ids = [f"{algorithm}:{key.hex()}" for key in {fault.id for fault in case.found.faults if fault.id}]
    now = case.store.have([*ids, *(item.id for item in lacking)]) if done is not None else {}
    found = list(case.broken_records)
    for item, text in case.deviating.items():
        needs = case.needs.objects[item]
        found.append(Finding(RECORD, needs[0].root.record, item.id, text, len(needs), _needed_by(case, needs, names)))
    for fault in case.found.faults:
        object_id = f"{algorithm}:{fault.id.hex()}" if fault.id else ""
        needs = users.get(fault.id, [])
        kept = done.kept.get(fault.name, "") if done is not None else ""
        repaired = _repaired(case, fault, object_id, bool(needs), now, done, kept) if done is not None else ""
        by = _needed_by(case, needs, names)
        found.append(Finding(fault.problem, fault.name, object_id, fault.text, len(needs), by, repaired, kept))
    for item, text in lacking.items():
        key = digest_bytes(item.id)
        repaired = (done.came.get(key, "an index names it again") if item.id in now else "") if done is not None else ""
        by = _needed_by(case, users[key], names)
        cached = item.id in case.cached
        found.append(Finding(ABSENT, "", item.id, text, len(users[key]), by, repaired, cached=cached))
    return found


def _repaired(
    case: _Case, fault: Fault, object_id: str, needed: bool, now: Mapping[str, bytes], done: Mended, kept: str
) -> str:
    """How a fault was repaired, "" when it was not."""
    if not fault.id:
        if fault.name.startswith("index/"):
            return "made anew from the packs" if kept else ""
        if fault.name.startswith("packs/"):
            return "what is right in it is in another pack now" if kept or fault.problem == MISSING else ""
        return "moved away" if kept else ""
    if fault.id in done.left and fault.id not in done.came:
        return ""
    sealed = now.get(object_id)
    # Of a recipe with a wrong seal the copy that came has another one.
    if sealed is not None and (not sealed or not fault.seal or sealed == fault.seal or fault.id in done.came):
        return done.came.get(fault.id, "there is a good copy in another place of the store")
    if case.store.is_cache and kept and not needed:
        return "moved away; no record here needs it"
    return ""


def _needed_by(case: _Case, needs: Sequence[Need], names: Mapping[Version, str]) -> tuple[NeededBy, ...]:
    found: dict[NeededBy, None] = {}
    for need in needs:
        version = need.root.version
        revision = "" if version is None else names.get(version, version.commit[:12])
        found.setdefault(NeededBy(need.path, need.root.record, revision))
    return tuple(found)[:NAMED]


def _revisions(case: _Case, needs: Sequence[Need]) -> dict[Version, str]:
    """Versions of records in words: the branches and tags that hold them now, else the commit that brought them."""
    versions = list(dict.fromkeys(need.root.version for need in needs if need.root.version is not None))[:ASKED]
    if not versions or case.project.git is None:
        return {}
    refs = git.refs_with(case.project.git, versions, naming.REFS)
    return {version: ", ".join([*names[:3], *(["…"] if len(names) > 3 else [])]) for version, names in refs.items()}


def _notes(case: _Case) -> list[str]:
    found, notes = case.found, []
    for name, items in case.elsewhere.items():
        what = f"{_count(len(items), 'object')} that records need {_is(len(items))} not in the cache"
        notes.append(f"{what}; remote '{name}' has {'it' if len(items) == 1 else 'them'}")
    if case.only_history:
        count = case.only_history
        notes.append(f"{_count(count, 'object')} that only other revisions need {_is(count)} not in {case.store.label}")
    if found.spare_packs and not found.bad_indexes:
        size = sum(found.packs[pack] for pack in found.spare_packs)
        packs = _count(len(found.spare_packs), "pack")
        notes.append(f"{packs} ({size:,} bytes) that no index names, as a killed push leaves them")
    if found.spare_loose:
        notes.append(f"{_count(len(found.spare_loose), 'object')} that no index names, as a killed push leaves them")
    if found.leftovers:
        of = "of killed commands, or of somebody else"
        notes.append(f"{_count(len(found.leftovers), 'leftover')} {of}, such as {found.leftovers[0]}")
    if found.catalog_was_wrong:
        notes.append("the catalog, a memory of what the store holds, was not right; it was made anew")
    return notes


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def _is(number: int) -> str:
    return "is" if number == 1 else "are"


def _verdict(findings: Sequence[Finding]) -> str:
    open_ones = [finding for finding in findings if not finding.repaired]
    if not findings:
        return SOUND
    if not open_ones:
        return REPAIRED
    return LACKING if all(finding.problem == ABSENT for finding in open_ones) else DAMAGED
