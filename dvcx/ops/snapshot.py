"""The snapshot stages are judged by: what is at their paths, their params, and how changed directories differ, in words."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dvcx.core.changes import differences, file_changes, summarise
from dvcx.core.objects import BLOB, TREE, Content
from dvcx.core.pipeline.dependencies import condition_files, externals
from dvcx.core.pipeline.schema import Stage
from dvcx.core.records import LockEntry
from dvcx.core.staleness import Snapshot
from dvcx.errors import DvcxError, display
from dvcx.events import Emit, Warned
from dvcx.io import files
from dvcx.io.statindex import StatIndex
from dvcx.io.workspace import Rules
from dvcx.ops.inputs import add_unseen, environment_digests, unwanted, used_files
from dvcx.ops.looking import observe, stored_trees
from dvcx.ops.placed import Parts
from dvcx.project import command_environment

if TYPE_CHECKING:
    from dvcx.project import Project

SHORT, LONG = 5.0, 60.0
"""Seconds that urls have to answer: where nobody should wait for long, and where what they say will be recorded."""
NOTHING_ASKED: Mapping[str, str] = MappingProxyType({})
MAX_PARAMS = 1 << 20
MAX_LINES = 1 << 20
"""Larger files are not compared line by line."""
MAX_TABLES = 20
"""So many tables that changed are compared row by row for one answer."""


def stage_paths(stages: Iterable[Stage]) -> list[str]:
    """Every path the stages read or write."""
    return [path for stage in stages for path in (*stage.deps, *(out.path for out in stage.outs))]


def snapshot(
    project: Project,
    stages: Iterable[Stage],
    lock: Mapping[str, LockEntry],
    *,
    index: StatIndex,
    rules: Rules,
    emit: Emit,
    parts: Parts,
    seen: Mapping[str, Content | None] | None = None,
    present: bool = False,
    patience: float = SHORT,
    asked: Mapping[str, str] = NOTHING_ASKED,
) -> Snapshot:
    """What stages are judged by: what was never pulled counts as recorded. `seen` spares looking at paths twice.

    With `present` that is so for parts of what is here alone. Urls that stages read have `patience` seconds to answer. Which did
    not is told, and in the snapshot's `unasked`. What was `asked` before is not asked again; nor is what frozen stages read, as
    long as somebody only looks.
    """
    chosen = tuple(stages)
    known = dict(seen or {})
    known.update(
        observe(project, [path for path in stage_paths(chosen) if path not in known], index=index, rules=rules, emit=emit)
    )
    read = dict.fromkeys(of.file for stage in chosen for of in stage.params)
    gated = [stage for stage in chosen if stage.when]
    if gated:
        read.update(dict.fromkeys(file for stage in gated for file in condition_files(stage)))
    params = {file: _read_for(project, file, chosen) for file in read}
    recorded: dict[str, Content] = {}
    for stage in chosen:
        entry = lock.get(stage.address)
        if entry is not None:
            recorded.update({**entry.deps, **entry.outs})
    not_pulled: dict[str, int] = {}
    absent = [path for path in recorded if path in known and known[path] is None] if not present else []
    away = {path: content for path in absent if (content := parts.away(path)) is not None}
    known.update(away)
    not_pulled.update({path: content.files for path, content in away.items()})
    for path in stage_paths(chosen):
        content = known.get(path)
        merged = parts.partial(path, content) if content != recorded.get(path) and path not in not_pulled else None
        if merged is not None and merged.content is not None:
            known[path], not_pulled[path] = merged.content, merged.files
    details: dict[str, str] = {}
    tables = 0
    for path, content in known.items():
        old = recorded.get(path)
        if content is None or old is None or content == old or content.kind != old.kind or path in away:
            continue
        if content.kind == TREE:
            details[path] = describe(project, path, old, content, parts=parts, emit=emit)
        elif is_table(path) and tables < MAX_TABLES:
            tables += 1
            details[path] = describe_lines(project, path, old, content, emit=emit)
    now = Snapshot(known, params, {path: text for path, text in details.items() if text}, not_pulled)
    if gated or any(stage.wants or stage.execution.env for stage in chosen):
        # Few projects have any; the others do not pay for them.
        outputs = [out.path for stage in parts.stages for out in stage.outs]
        used = used_files(project, chosen, outputs, index=index, rules=rules)
        not_pulled.update(dict.fromkeys(add_unseen(chosen, used, parts), 1))
        now = now._replace(
            used=used,
            env=environment_digests((name for stage in chosen for name in stage.execution.env), command_environment()),
            unwanted=unwanted(gated, params, parts.tracks) if patience == SHORT else unwanted(gated, params),
        )
        read_outside = [stage for stage in chosen if stage.address not in now.unwanted and (patience == LONG or not stage.frozen)]
        outside = {want.value: want.pinned for stage in read_outside for want in externals(stage)}
        if outside:
            now = _with_external(project, now, outside, asked, index, patience, emit)
    return now


def _with_external(
    project: Project,
    now: Snapshot,
    outside: Mapping[str, str],
    asked: Mapping[str, str],
    index: StatIndex,
    patience: float,
    emit: Emit,
) -> Snapshot:
    # Only who has such inputs pays for what asks for them.
    from dvcx.ops.externals import ask

    pinned = {address: words for address, words in outside.items() if words}
    unknown = [address for address in outside if address not in asked and address not in pinned]
    answers = ask(project, unknown, index=index, patience=patience)
    if patience == SHORT:
        for error in answers.unasked.values():
            emit(Warned(f"not asked, and taken as recorded: {error.message}", error.hint))
    return now._replace(external={**asked, **answers.found, **pinned}, unasked=answers.unasked)


def is_table(path: str) -> bool:
    """Whether `path` is named like a table of one row a line."""
    return path.lower().endswith((".csv", ".tsv", ".jsonl", ".ndjson"))


def describe(project: Project, path: str, old: Content, new: Content, *, parts: Parts, emit: Emit) -> str:
    """How the directory at `path` differs from what was recorded, in words; "" when the old listing is not in the cache."""
    cache = project.cache(emit)
    try:
        read_old, read_new = stored_trees(cache), parts.read
        with contextlib.suppress(DvcxError):
            return summarise(file_changes(differences(path, old, new, read_old, read_new), read_old, read_new))
        return ""
    finally:
        cache.close()


def describe_lines(project: Project, path: str, old: Content, new: Content, *, emit: Emit) -> str:
    """How the text at `path` differs from what was recorded ("1 row added"); "" for large ones and for old ones not cached."""
    from dvcx.core.reasons import line_changes
    from dvcx.io.store.store import wanted

    if max(old.size, new.size) > MAX_LINES or BLOB not in (old.kind, new.kind) or (old.id, old.seal) == (new.id, new.seal):
        return ""
    cache = project.cache(emit)
    try:
        with contextlib.suppress(DvcxError):
            before, after = cache.read(wanted(old)), files.read_record(project.root, path, MAX_LINES)
            return line_changes(before, after or b"", "row" if is_table(path) else "line")
        return ""
    finally:
        cache.close()


def _read_for(project: Project, file: str, stages: Sequence[Stage]) -> Mapping[str, Any] | None:
    try:
        return read_params(project, file)
    except DvcxError as error:
        stage = next((stage for stage in stages if any(of.file == file for of in stage.params)), None)
        if stage is None:
            raise
        raise type(error)(f"{error.message} (stage '{display(stage.address)}' reads it)", error.hint) from None


def read_params(project: Project, file: str) -> Mapping[str, Any] | None:
    """The values of a params file, None when it is absent; parsing is remembered by the digest of its bytes."""
    data = files.read_record(project.root, file, MAX_PARAMS)
    if data is None:
        return None
    from dvcx.io.hashing import seal

    key = seal(data)
    path = f"{project.state_dir}/params-{seal(file.encode()).hex()[:16]}"
    with contextlib.suppress(OSError, ValueError), open(path, "rb") as memory:
        head, _, body = memory.read(16 << 20).partition(b"\n")
        if head == key.hex().encode():
            remembered = json.loads(body)
            if isinstance(remembered, dict):
                return remembered
    from dvcx.io.yaml import load_params

    values = load_params(data, file)
    with contextlib.suppress(DvcxError, TypeError, ValueError):
        files.private_directory(project.state_dir)
        files.atomic_write(path, key.hex().encode() + b"\n" + json.dumps(values).encode(), mode=0o600, fsync=False)
    return values
