"""verify: run a stage again with its declared inputs alone, in a private directory, and compare what it writes."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.objects import TREE, Content
from dvcx.core.paths import contains, join
from dvcx.core.pipeline.graph import build, find
from dvcx.core.pipeline.schema import Stage
from dvcx.core.records import LockEntry, Request, encode_request, lines_of
from dvcx.core.staleness import recorded_request
from dvcx.errors import DvcxError, NotFound, StageFailed, UsageError, display
from dvcx.events import Emit, StageBegan, StageEnded, ignore
from dvcx.io.comparing import is_table, table_difference
from dvcx.io.hashing import seal
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

    `missed` are files of the project that no dependency declares, and that the command named when it failed.
    """

    stage: str
    good: bool
    seconds: float
    outs: tuple[ComparedOut, ...]
    missed: tuple[str, ...] = ()
    error: str = ""


def verify(project: Project, target: str, *, tolerance: float = -1.0, emit: Emit = ignore) -> Verified:
    """Run what the lock records of a stage again, on what the lock says it read, and compare with what it wrote.

    The workspace and the lock stay as they are. With a `tolerance` (0 and more) tables may differ that much, relatively. Raises
    `NotFound` for a stage that was never run, or whose inputs are neither in the cache nor in the workspace.
    """
    tracked = records.load(project)
    found = find(build(tracked.stages, tracked.pointers), target)
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
    with furnished(project, cache, asked, beside, emit) as room:
        outcome = run_in(
            room, environment, key=key, hear=lambda data, _: _keep(printed, data), timeout=stage.execution.timeout
        )
        error = "" if outcome.good else f"the command {outcome.how}: {display(outcome.command)}"
        outs: dict[str, Content] = {}
        if not error:
            try:
                check_inputs(room)
                outs = take(project, cache, room)
            except StageFailed as failed:
                error = failed.message
        text = printed.decode("utf-8", "replace")
        missed = _missed(project, room, {**asked.deps, **beside}, text) if error else ()
    emit(StageEnded(stage.address, "failed" if error else "ran", outcome.wall))
    if error:
        last = [display(line) for line in text.splitlines() if line.strip()][-1:]
        return Verified(stage.address, False, outcome.wall, (), missed, "\n".join([error, *last]))
    compared = tuple(_compared(cache, path, entry.outs[path], outs[path], tolerance) for path in sorted(outs))
    return Verified(stage.address, all(item.how != "differs" for item in compared), outcome.wall, compared)


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


def _missed(project: Project, room: Room, inputs: Mapping[str, Content], text: str) -> tuple[str, ...]:
    """Files of the project that the command named and that are not in its private directory."""
    known = [*inputs, *room.request.outs, *room.request.params]
    found: dict[str, None] = {}
    for name in _named(text):
        for path in _paths(name, room):
            inside = path and not any(contains(declared, path) for declared in known)
            if inside and os.path.isfile(f"{project.root}/{path}") and not os.path.lexists(f"{room.path}/{path}"):
                found[path] = None
    return tuple(sorted(found))


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
