"""What dependencies that are no plain path stand for now: files of wildcards and imports, environment variables, conditions."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dvcx.core.globs import Globs, fixed_part
from dvcx.core.objects import DIR, TREE, Content, entry_content
from dvcx.core.paths import contains, join, path_problem, resolve
from dvcx.core.pipeline.dependencies import (
    GLOB,
    PASSED_OVER,
    condition_files,
    condition_place,
    files_wanted,
    may_match,
    near,
    not_read,
    reads_output,
    spec,
)
from dvcx.core.pipeline.schema import PARAMS_FILE, Stage, Want
from dvcx.core.records import Used
from dvcx.errors import DvcxError, NotFound, UnsafeInput, display
from dvcx.io import files
from dvcx.io.hashing import seal
from dvcx.io.statindex import Remembers, Row
from dvcx.io.workspace import Looking, Rules, look

if TYPE_CHECKING:
    from dvcx.core.pipeline.closure import Code
    from dvcx.ops.placed import Parts
    from dvcx.project import Project

MAX_CODE = 8 << 20
"""A longer Python file is compared by its bytes, and nobody looks for imports in it."""
MAX_MEMORY = 64 << 20

Files = dict[tuple[str, str], dict[str, Used]]
"""By the stage's address and the dependency: its files by path."""


def used_files(
    project: Project, stages: Iterable[Stage], outputs: Sequence[str], *, index: Remembers, rules: Rules
) -> Files:
    """The files that `glob:` and `py:` dependencies of stages stand for. `outputs` are those of all stages of the project."""
    found: Files = {}
    # Many stages may have the same wildcard.
    nears: dict[str, tuple[str, ...]] = {}
    listed: dict[tuple[str, tuple[str, ...]], dict[str, Used]] = {}
    for stage in stages:
        for want in files_wanted(stage):
            if want.kind == GLOB:
                if want.value not in nears:
                    nears[want.value] = near(want.value, outputs)
                key = (want.value, not_read(stage, want, nears[want.value]))
                if key not in listed:
                    files_now = matching(project, *key, index=index, rules=rules)
                    listed[key] = {path: Used(content) for path, content in files_now.items()}
                found[stage.address, spec(want)] = dict(listed[key])
            else:
                found[stage.address, spec(want)] = _imported(project, stage, want, index, rules)
    return found


def add_unseen(stages: Iterable[Stage], used: Files, parts: Parts) -> list[str]:
    """Add the files of tracked data that was never pulled to those of wildcards, as recorded; their paths."""
    added = []
    for stage in stages:
        for want in stage.wants:
            if want.kind != GLOB or not used:
                continue
            globs, found = Globs([want.value]), used[stage.address, spec(want)]
            own = {out.path for out in stage.outs}
            for path, content in parts.unseen_files(
                lambda path, globs=globs: globs.names(path) and may_match(path),  # type: ignore[misc]
                lambda path, want=want, own=own: path not in own and reads_output(want, path),  # type: ignore[misc]
            ):
                if path not in found:
                    found[path] = Used(content)
                    added.append(path)
    return added


def matching(
    project: Project, pattern: str, passed: Sequence[str], *, index: Remembers, rules: Rules
) -> dict[str, Content]:
    """Files a wildcard names and what they hold, by path, without those below the paths `passed` over.

    Each directory is remembered in the stat index under a key of the pattern's own: other questions about it keep theirs.
    """
    globs = Globs([pattern])
    mark = seal("\0".join([pattern, *passed, rules.fingerprint]).encode()).hex()[:32]
    view = _View(index, f".dvcx/glob/{mark[:16]}")
    barred = frozenset(passed)

    def ignored(path: str, is_directory: bool) -> bool:
        if path in barred or path.rpartition("/")[2] in PASSED_OVER:
            return True
        if rules.ignored is not None and rules.ignored(path, is_directory):
            return True
        return not (globs.leads(path) or globs.names(path)) if is_directory else not (globs.names(path) and may_match(path))

    narrowed = Rules(ignored, mark, rules.objects)
    found: dict[str, Content] = {}
    for path in _beginnings(project.root, fixed_part(pattern), ignored):
        content = _looked_at(project, path, view, narrowed)
        if content is not None and content.kind == TREE:
            found.update(_below(view, path))
        elif content is not None and not ignored(path, False):
            found[path] = content
    return found


def names_matching(project: Project, pattern: str) -> list[str]:
    """The files a wildcard names, sorted. Only names are looked at, and only in directories that can hold such a file."""
    globs, rules = Globs([pattern]), project.rules()
    found: list[str] = []
    todo = [fixed_part(pattern)]
    while todo:
        here = todo.pop()
        try:
            with os.scandir(f"{project.root}/{here}" if here else project.root) as entries:
                inside = [(join(here, entry.name), entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError:
            continue
        for path, is_directory in inside:
            if path.rpartition("/")[2] in PASSED_OVER or (rules.ignored is not None and rules.ignored(path, is_directory)):
                continue
            if is_directory:
                todo += [path] if globs.leads(path) or globs.names(path) else []
            elif globs.names(path) and may_match(path) and not path_problem(path):
                found.append(path)
    return sorted(found)


def environment_digests(names: Iterable[str], environment: Mapping[str, str]) -> dict[str, str]:
    """Digests of the values of environment variables, "" for one that is not set; never the value, which may be a secret."""
    found = {}
    for name in names:
        value = environment.get(name)
        found[name] = "" if value is None else seal(f"{name}\0{value}".encode("utf-8", "surrogateescape")).hex()
    return found


def unwanted(
    stages: Iterable[Stage], values: Mapping[str, Mapping[str, Any] | None], coming: Callable[[str], bool] = lambda file: False
) -> dict[str, str]:
    """The stages whose `when` is false, by address, each with the first condition that is. `values` are params files.

    A file that is missing and `coming` leaves it open. Raises `UsageError` for a parameter that does not exist, `NotFound` for
    a params file that does not.
    """
    found = {}
    for stage in stages:
        if any(values.get(file) is None and coming(file) for file in condition_files(stage)):
            continue
        for text in stage.when:
            if not _holds(stage, text, values):
                found[stage.address] = text
                break
    return found


def _holds(stage: Stage, text: str, values: Mapping[str, Mapping[str, Any] | None]) -> bool:
    from dvcx.core.pipeline.conditions import holds, parse_condition

    where = condition_place(stage, text)

    def read(file: str) -> Mapping[str, Any]:
        path = resolve(stage.wdir, file or PARAMS_FILE, where)
        known = values.get(path)
        if known is None:
            raise NotFound(
                f"{where}: the parameter file {display(path)} is missing",
                "let the stage that writes it run (dvcx repro), bring it (dvcx pull), or create it",
            )
        return known

    return holds(parse_condition(text, where), read, where)


class _View:
    """A memory of directories in which every path has a name of its own. What the project knows of a path helps a first look."""

    def __init__(self, index: Remembers, prefix: str) -> None:
        self._index, self._prefix = index, prefix

    def get(self, path: str) -> Row | None:
        """What is remembered of a directory."""
        return self._index.get(f"{self._prefix}/{path}") or self._index.get(path)

    def put(self, path: str, row: Row) -> None:
        """Remember a directory."""
        self._index.put(f"{self._prefix}/{path}", row)


def _beginnings(root: str, base: str, ignored: Any) -> Iterator[str]:
    """Where to begin looking: the directory `base`, or everything at the top of the project that may matter."""
    if base:
        yield base
        return
    with os.scandir(root) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not path_problem(entry.name) and not ignored(entry.name, entry.is_dir(follow_symlinks=False)):
                yield entry.name


def _looked_at(project: Project, path: str, index: Remembers, rules: Rules) -> Content | None:
    try:
        return look(project.root, path, index=index, sink=Looking(project.algorithm), rules=rules)
    except UnsafeInput:
        # A symbolic link at the very top of what is looked for: no file of ours.
        if os.path.islink(f"{project.root}/{path}"):
            return None
        raise


def _below(index: Remembers, path: str) -> Iterator[tuple[str, Content]]:
    todo = [path]
    while todo:
        here = todo.pop()
        row = index.get(here)
        for entry in row.entries() if row is not None else ():
            if entry.kind == DIR:
                todo.append(join(here, entry.name))
            else:
                yield join(here, entry.name), entry_content(entry)


def _imported(project: Project, stage: Stage, want: Want, index: Remembers, rules: Rules) -> dict[str, Used]:
    """The files of a script's import closure; what was parsed is remembered by the seals of its bytes."""
    from dvcx.core.pipeline.closure import closure, dump_code, load_code, search_roots

    root = project.root
    memory = f"{project.state_dir}/code-{seal(f'{stage.address} {spec(want)}'.encode()).hex()[:16]}"
    known: dict[str, Code] = {}
    with contextlib.suppress(OSError, ValueError, TypeError), open(memory, "rb") as file:
        known = load_code(json.loads(file.read(MAX_MEMORY)))
    contents: dict[str, Content] = {}
    codes: dict[str, Code] = {}

    def code(path: str) -> Code | None:
        content = _content(project, path, index, rules)
        if content is None:
            return None
        contents[path] = content
        if content.seal not in codes:
            codes[content.seal] = known.get(content.seal) or _read_code(f"{root}/{path}", content)
        return codes[content.seal]

    try:
        paths = closure(
            want.value, search_roots(want.value, stage.wdir, lambda path: os.path.isfile(f"{root}/{path}/__init__.py")), code
        )
    except RecursionError:
        raise UnsafeInput(
            f"stage '{display(stage.address)}': {display(spec(want))} imports too many files", "list what it needs under deps"
        ) from None
    needed = {contents[path].seal: codes[contents[path].seal] for path in paths}
    kept = {key: read for key, read in needed.items() if read.text}
    if kept.keys() != known.keys():
        with contextlib.suppress(DvcxError):
            files.private_directory(project.state_dir)
            files.atomic_write(memory, json.dumps(dump_code(kept)).encode(), mode=0o600, fsync=False)
    return {path: Used(contents[path], "" if want.exact else needed[contents[path].seal].text) for path in paths}


def _content(project: Project, path: str, index: Remembers, rules: Rules) -> Content | None:
    """What a module's file holds; a link counts as what it points to, when that is in the project."""
    full = f"{project.root}/{path}"
    if not os.path.isfile(full) or path_problem(path):
        return None
    real = os.path.realpath(full)
    if not contains(project.root, real):
        return None
    return look(project.root, real[len(project.root) + 1 :], index=index, sink=Looking(project.algorithm), rules=rules)


def _read_code(path: str, content: Content) -> Code:
    """A file's code, with a digest in place of its text."""
    from dvcx.core.pipeline.closure import Code, read_code

    if content.size > MAX_CODE:
        return Code("", ())
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_CODE)
    except OSError:
        return Code("", ())
    if seal(data).hex() != content.seal:
        # It changed just now: what it imports is found out when it stands still.
        return Code("", ())
    found = read_code(data)
    return found._replace(text=_digest(found))


def code_digest(data: bytes) -> str:
    """The digest of what a Python file's code says; "" for what this Python cannot read."""
    from dvcx.core.pipeline.closure import read_code

    return _digest(read_code(data))


def _digest(code: Code) -> str:
    return seal(code.text.encode()).hex() if code.text else ""
