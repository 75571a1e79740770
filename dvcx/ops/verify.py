"""verify: run a stage again with its declared inputs alone, in a private directory, and compare what it writes."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.objects import TREE, Content
from dvcx.core.paths import contains, join
from dvcx.core.pipeline.graph import find
from dvcx.core.pipeline.schema import Stage
from dvcx.core.records import LockEntry, Request, encode_request, lines_of
from dvcx.core.staleness import recorded_request
from dvcx.errors import DvcxError, NotFound, StageFailed, UsageError, display
from dvcx.events import Emit, StageBegan, StageEnded, ignore
from dvcx.io import place
from dvcx.io.comparing import is_table, table_difference
from dvcx.io.hashing import seal
from dvcx.io.runners.witness import Seen, Witness
from dvcx.io.store.store import Store, wanted
from dvcx.ops import records
from dvcx.ops.exec_action import refuse_external, store_inputs
from dvcx.ops.executing import Room, check_inputs, environment_of, furnished, run_in, take
from dvcx.project import command_environment

if TYPE_CHECKING:
    from dvcx.project import Project

KEPT = 1 << 20
"""So many bytes of what the command printed are searched for names of files, from its beginning and from its end."""
MAX_TABLE = 512 << 20
_NO_INPUT = frozenset({".git", ".dvcx", "__pycache__", "node_modules", "site-packages"})
_PROGRAMS = ("pyvenv.cfg", "conda-meta")
_NAMED = re.compile(r"""['"‘’“”`]([^'"‘’“”`\n]{1,400})['"‘’“”`]|([^\s'"`:;,()\[\]{}<>=|&]{1,400})""")
_FAILING = ("no such file", "not found", "cannot open", "can't open", "does not exist")
_MODULE = re.compile(r"No module named ['\"]?([A-Za-z_][\w.]*)|cannot import name .* from ['\"]([A-Za-z_][\w.]*)")


@dataclass(frozen=True, slots=True)
class ComparedOut:
    """One output: `how` is same, close (a table within the tolerance) or differs; `words` say how it differs."""

    path: str
    how: str
    words: str = ""


@dataclass(frozen=True, slots=True)
class Verified:
    """`good`: the stage ran on its declared inputs alone and wrote the same. `error` says how the command ended otherwise.

    `missed` are files of the project that no dependency declares, and that the command asked for where they are not; `read`
    those that it read where they are, in the project itself: then it is not good. `seen` tells who saw what it asked for:
    python (in every Python it started), strace; where neither did, only what a failing command printed tells of files.
    """

    stage: str
    good: bool
    seconds: float
    outs: tuple[ComparedOut, ...]
    missed: tuple[str, ...] = ()
    error: str = ""
    read: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()


def verify(project: Project, target: str, *, tolerance: float = -1.0, emit: Emit = ignore) -> Verified:
    """Run what the lock records of a stage again, on what the lock says it read, and compare with what it wrote.

    The workspace and the lock stay as they are. With a `tolerance` (0 and more) tables may differ that much, relatively. Raises
    `NotFound` for a stage that was never run, or whose inputs are neither in the cache nor in the workspace.
    """
    tracked = records.load(project)
    found = find(tracked.graph, target)
    if len(found) != 1:
        raise UsageError(f"'{display(target)}' names {len(found)} stages", "name one stage")
    (stage,) = found
    entry = tracked.lock.get(stage.address)
    if entry is None:
        raise NotFound(f"stage '{display(stage.address)}' was never run", f"dvcx repro {display(stage.address)}")
    cache = project.cache(emit, write=True)
    try:
        with project.cache_writer_lock(f"dvcx verify ({stage.address})", emit):
            return _verify(project, cache, stage, entry, tolerance, emit)
    finally:
        cache.close()


def _verify(
    project: Project, cache: Store, stage: Stage, entry: LockEntry, tolerance: float, emit: Emit
) -> Verified:
    asked = recorded_request(stage, entry)
    refuse_external(asked, f"stage '{display(stage.address)}'")
    beside = {path: file.content for files in entry.used.values() for path, file in files.items() if path in asked.code}
    store_inputs(project, cache, {**asked.deps, **beside})
    environment = environment_of(asked, command_environment())
    printed = bytearray()
    emit(StageBegan(stage.address, " && ".join(lines_of(entry.cmd)), ("verify",)))
    key = seal(encode_request(asked)).hex()
    with furnished(project, cache, asked, beside, emit) as room, place.Staging(project.staging_dir) as notes:
        witness = Witness(notes.directory("w"), room.path)
        outcome = run_in(
            room,
            environment,
            key=key,
            hear=lambda data, _: _keep(printed, data),
            timeout=stage.execution.timeout,
            witness=witness,
        )
        # Not its `command`: that is how it was watched.
        error = "" if outcome.good else f"the command {outcome.how}: {display(' && '.join(lines_of(entry.cmd)))}"
        outs: dict[str, Content] = {}
        if not error:
            try:
                check_inputs(room)
                outs = take(project, cache, room)
            except StageFailed as failed:
                error = failed.message
        text = printed.decode("utf-8", "replace")
        known = (*asked.deps, *beside, *asked.outs, *asked.params, *stage.deps)
        seen = witness.seen()
        missed, read = _undeclared(project, room, known, seen)
        if error:
            missed |= _named_in(project, room, known, text)
    emit(StageEnded(stage.address, "failed" if error else "ran", outcome.wall))
    if error:
        last = [display(line) for line in text.splitlines() if line.strip()][-1:]
        error = "\n".join([error, *last])
    compared = tuple(_compared(cache, path, entry.outs[path], outs[path], tolerance) for path in sorted(outs))
    good = not error and not read and all(item.how != "differs" for item in compared)
    return Verified(
        stage.address, good, outcome.wall, compared, tuple(sorted(missed)), error, tuple(sorted(read)), seen.by
    )


def _keep(printed: bytearray, data: bytes) -> None:
    printed += data
    if len(printed) > 2 * KEPT:
        del printed[KEPT : len(printed) - KEPT]


def _compared(cache: Store, path: str, old: Content, new: Content, tolerance: float) -> ComparedOut:
    if (old.kind, old.id, old.seal, old.executable) == (new.kind, new.id, new.seal, new.executable):
        return ComparedOut(path, "same")
    if old.kind != new.kind:
        return ComparedOut(path, "differs", "a file here and a directory there")
    if (old.id, old.seal) == (new.id, new.seal):
        return ComparedOut(path, "differs", "only one of them may be executed")
    if tolerance >= 0 and old.kind != TREE and is_table(path) and max(old.size, new.size) <= MAX_TABLE:
        try:
            before = cache.read(wanted(old))
        except DvcxError as error:
            return ComparedOut(path, "differs", f"the recorded one cannot be read: {error.message}")
        words = table_difference(path, before, cache.read(wanted(new)), tolerance)
        return ComparedOut(path, "differs" if words else "close", words)
    return ComparedOut(path, "differs", f"{old.size:,} → {new.size:,} bytes" if old.size != new.size else "other bytes")


def _undeclared(project: Project, room: Room, known: Collection[str], seen: Seen) -> tuple[set[str], set[str]]:
    """Paths of the project that no dependency declares: asked for in the room, which lacks them; and read in the project."""
    missed: set[str] = set()
    read: set[str] = set()
    for path in seen.opened | seen.sought | seen.looked:
        inside, here = _below(room.path, path), _below(project.root, path)
        asked, found = (inside, missed) if inside is not None else (here, read)
        if not asked or (inside is None and path not in seen.opened) or (inside is not None and os.path.lexists(path)):
            continue
        if _is_input(project, asked, known, listed=path in seen.opened or path in seen.sought):
            found.add(asked)
    return _deepest(missed), _deepest(read)


def _deepest(paths: set[str]) -> set[str]:
    """Paths without the directories on the way to others of them."""
    above = {"/".join(path.split("/")[:count]) for path in paths for count in range(1, path.count("/") + 1)}
    return paths - above


def _below(root: str, path: str) -> str | None:
    """The path below a directory, "" for itself; None elsewhere."""
    return "" if path == root else path[len(root) + 1 :] if path.startswith(f"{root}/") else None


def _is_input(project: Project, path: str, known: Collection[str], *, listed: bool) -> bool:
    """Whether a path may be an input of a stage, and is there, and none of the `known` ones. Programs and their parts are not."""
    parts = path.split("/")
    if not _NO_INPUT.isdisjoint(parts) or path.endswith(".pyc") or any(contains(declared, path) for declared in known):
        return False
    full = f"{project.root}/{path}"
    above = [f"{project.root}/{'/'.join(parts[:count])}" for count in range(1, len(parts))]
    if any(os.path.lexists(f"{directory}/{mark}") for directory in above for mark in _PROGRAMS):
        return False
    return os.path.isfile(full) or (listed and os.path.isdir(full) and not any(contains(path, declared) for declared in known))


def _named_in(project: Project, room: Room, known: Collection[str], text: str) -> set[str]:
    """Files of the project that a failing command named and that are not in its private directory."""
    return {
        path
        for name in _named(text)
        for path in _paths(name, room)
        if path and not os.path.lexists(f"{room.path}/{path}") and _is_input(project, path, known, listed=False)
    }


def _named(text: str) -> Iterable[str]:
    for line in text.splitlines():
        failing = any(word in line.lower() for word in _FAILING)
        for match in _NAMED.finditer(line):
            # A bare word may be anything; one with a dot or a slash, in quotes, or in such a line is a name.
            if match[1] or failing or "." in match[2] or "/" in match[2]:
                yield match[1] or match[2]
    for match in _MODULE.finditer(text):
        module = (match[1] or match[2]).replace(".", "/")
        yield from (f"{module}.py", f"{module}/__init__.py", f"{module.rpartition('/')[0]}.py")


def _paths(name: str, room: Room) -> list[str]:
    """Project paths a name may stand for: below the private directory, the stage's wdir, or where its inputs lie."""
    request: Request = room.request
    if name.startswith(room.path + "/"):
        return [posixpath.normpath(name[len(room.path) + 1 :])]
    if name.startswith("/"):
        return []
    bases = {request.wdir, "", *(posixpath.dirname(path) for path in (*request.deps, *request.code))}
    paths = [posixpath.normpath(join(base, name)) for base in bases]
    return [path for path in paths if not path.startswith(("../", "/", ".git/", ".dvcx/")) and path not in (".", "..")]
