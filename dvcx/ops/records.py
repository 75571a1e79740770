"""What the project tracks: its pointers, stages and lock entries, now or at a revision, with one owner per path."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dvcx.core.documents import Document
from dvcx.core.globs import WILDCARD, Globs, fixed_part
from dvcx.core.objects import TREE, Content
from dvcx.core.paths import contains, join, parent, relative, resolve, several
from dvcx.core.pipeline.dependencies import link, settled
from dvcx.core.pipeline.graph import Graph, build
from dvcx.core.pipeline.memory import dump_pipeline, load_pipeline
from dvcx.core.pipeline.schema import Pipeline, Stage, address, parse_pipeline, split_address
from dvcx.core.records import (
    MAX_LOCK,
    MAX_POINTER,
    POINTER_SUFFIX,
    LockEntry,
    Pointer,
    decode_journal,
    decode_lock,
    decode_pointer,
    encode_lock,
    encode_pointer,
)
from dvcx.errors import Conflict, DvcxError, IntegrityError, NotFound, UnsafeInput, UsageError, display
from dvcx.events import Emit, Warned
from dvcx.io import files, git

if TYPE_CHECKING:
    from dvcx.project import Project

PIPELINE, LOCK = "dvcx.yaml", "dvcx.lock"
MAX_PIPELINE = 1 << 20


class Tracked(NamedTuple):
    """All records. `pointers` by tracked path with the pointer's file; lock entries by stage address, project paths.

    `graph` is that of the stages and pointers; `pipelines` are what each dvcx.yaml says, by its path in the project.
    """

    pointers: Mapping[str, tuple[str, Pointer]]
    stages: tuple[Stage, ...]
    lock: Mapping[str, LockEntry]
    graph: Graph
    pipelines: Mapping[str, Pipeline]

    def contents(self) -> dict[str, Content]:
        """Recorded content of every tracked path: pointers, and the cached outputs of stages that have run."""
        found = {path: pointer.content for path, (_, pointer) in self.pointers.items()}
        for stage in self.stages:
            entry = self.lock.get(stage.address)
            for out in stage.outs:
                if entry is not None and out.path in entry.outs and out.cache:
                    found[out.path] = entry.outs[out.path]
        return found

    def owner(self, path: str) -> str:
        """The tracked path that is, or holds, `path`; "" when nothing does."""
        for tracked in self.pointers:
            if contains(tracked, path):
                return tracked
        for stage in self.stages:
            for out in stage.outs:
                if contains(out.path, path):
                    return out.path
        return ""

    def stage_of(self, path: str) -> Stage | None:
        """The stage that has exactly this output."""
        return next((stage for stage in self.stages for out in stage.outs if out.path == path), None)


# The bytes of a file by its path in the project, of at most so many bytes; None when there is none.
Read = Callable[[str, int], bytes | None]
# What was parsed in this process, by the digest of its bytes, with the files its templates read.
Parsed = dict[str, tuple[bytes, Pipeline]]


def load(project: Project, rev: str = "") -> Tracked:
    """All records of the workspace, or of a git revision. An unreadable one is an error that names it."""
    if rev:
        if project.git is None:
            raise NotFound(f"there is no revision '{display(rev)}': the project is not in a git repository", "git init")
        commit = git.resolve(project.git, rev)
        names = git.record_files_at(project.git, commit)
        data = git.read_at(project.git, commit, names)

        def params_at(path: str, limit: int) -> bytes | None:
            assert project.git is not None
            return git.read_at(project.git, commit, [path]).get(path)

        return _tracked(project, names, lambda path, limit: data.get(path), f"{rev}:", params_at)
    if project.git is not None:
        names = git.record_files(project.git)
    else:
        from dvcx.io.discover import find_records

        names = find_records(project.root)
    with files.Reader(project.root) as reader:
        return _tracked(project, names, reader.read, "", reader.read)


class Past:
    """The records at any number of commits. What several of them share is read, and made into stages, once."""

    def __init__(self, project: Project, snapshots: git.Snapshots) -> None:
        self._project = project
        self._snapshots = snapshots
        self._pipelines: Parsed = {}
        self._last: tuple[list[str], dict[str, str], Tracked] | None = None

    def at(self, commit: str, rev: str) -> Tracked:
        """The records at a commit, which errors call `rev`. An unreadable one is an error that names it."""
        snapshots = self._snapshots
        names = snapshots.records(commit)
        if self._last is not None:
            last, blobs, tracked = self._last
            if last == names and all(snapshots.blob(commit, path) == blob for path, blob in blobs.items()):
                return tracked
        asked: dict[str, str] = {}

        def read(path: str, limit: int) -> bytes | None:
            asked[path] = snapshots.blob(commit, path)
            return snapshots.read(commit, path, limit)

        tracked = _tracked(self._project, names, read, f"{rev}:", read, self._pipelines)
        self._last = (names, asked, tracked)
        return tracked


def _tracked(
    project: Project, names: Sequence[str], read: Read, prefix: str, read_params: Read, parsed: Parsed | None = None
) -> Tracked:
    pointers: dict[str, tuple[str, Pointer]] = {}
    pipelines: dict[str, Pipeline] = {}
    entries: dict[str, LockEntry] = {}
    for name in names:
        base = name.rpartition("/")[2]
        if base == LOCK:
            data = read(name, MAX_LOCK)
            if data is not None:
                entries.update(_lock_entries(data, name, prefix))
        elif base == PIPELINE:
            data = read(name, MAX_PIPELINE)
            if data is not None:
                read_more = with_wildcards(project, read_params, entries, there=not prefix)
                pipelines[name] = _pipeline(project, data, name, prefix, read_more, {} if parsed is None else parsed)
        elif name.endswith(POINTER_SUFFIX) and base != POINTER_SUFFIX:
            data = read(name, MAX_POINTER)
            if data is not None:
                pointer = decode_pointer(data, prefix + name)
                path = join(parent(name), pointer.path)
                if path in pointers:
                    raise _two_owners(path, pointers[path][0], path, name)
                pointers[path] = (name, pointer)
    if not prefix:
        entries.update(_finished_since(project, names, read))
    stages = linked(pipelines, project.root)
    return Tracked(pointers, stages, entries, build(stages, pointers), pipelines)


def maps_of(pipelines: Mapping[str, Pipeline]) -> dict[str, str]:
    """The stages that are made for files, as the address before the `@`, each with its wildcard."""
    return {address(file, name): pattern for file, pipeline in pipelines.items() for name, pattern in pipeline.maps}


def linked(pipelines: Mapping[str, Pipeline], root: str) -> tuple[Stage, ...]:
    """All stages, with what they need of one another and of data sets; paths in the project at `root` are `deps`."""
    stages = tuple(stage for pipeline in pipelines.values() for stage in pipeline.stages)
    if not any(stage.wants for stage in stages):
        return stages
    datasets = [one for pipeline in pipelines.values() for one in pipeline.datasets]
    return link(settled(stages, datasets, root), maps_of(pipelines))


def _finished_since(project: Project, names: Sequence[str], read: Read) -> dict[str, LockEntry]:
    """Entries of stages that a running (or killed) repro has finished and not written into their dvcx.lock yet."""
    found: dict[str, LockEntry] = {}
    for pipeline in (name for name in names if name.rpartition("/")[2] == PIPELINE):
        name = join(parent(pipeline), LOCK)
        for stage, entry in journal(project.state_dir, name, lambda name=name: read(name, MAX_LOCK)).items():  # type: ignore[misc]
            found[address(pipeline, stage)] = above(entry, parent(name))
    return found


def journal_path(state_dir: str, name: str) -> str:
    """Where the journal of the lock file `name` is, if there is one."""
    from dvcx.io.hashing import seal

    return f"{state_dir}/journal-{seal(name.encode()).hex()[:16]}"


def journal(state_dir: str, name: str, data: Callable[[], bytes | None]) -> dict[str, LockEntry]:
    """Entries, by stage name, that were recorded since the lock file `name` had the bytes `data()`, asked for when needed."""
    from dvcx.io.hashing import seal

    try:
        with open(journal_path(state_dir, name), "rb") as file:
            lines = file.read(MAX_LOCK)
    except OSError:
        return {}
    return decode_journal(lines, seal(data() or b"").hex(), name)


def read_lock(project: Project, name: str) -> tuple[bytes | None, dict[str, LockEntry]]:
    """The bytes of the lock file `name`, and its entries with those that were recorded since, by stage name."""
    data = files.read_record(project.root, name, MAX_LOCK)
    lock = decode_lock(data, name) if data is not None else {}
    return data, {**lock, **journal(project.state_dir, name, lambda: data)}


def _pipeline(project: Project, data: bytes, name: str, prefix: str, read: Read, parsed: Parsed) -> Pipeline:
    """What one dvcx.yaml says; parsing it is remembered by the digest of its bytes and of the files its templates read."""
    if not data.strip():
        raise IntegrityError(
            f"{display(prefix + name)}: it is empty: truncated?", f"restore it: git checkout -- {display(name)}; or remove it"
        )
    from dvcx.io.hashing import seal

    style = template_style(project)
    key = seal("\0".join((name, *style, "")).encode() + data).hex()
    if key in parsed and _unchanged(parsed[key][0], read):
        return parsed[key][1]
    path = f"{project.state_dir}/stages-{seal(name.encode()).hex()[:16]}"
    try:
        with open(path, "rb") as file:
            head, _, body = file.read(64 << 20).partition(b"\n")
    except OSError:
        head = body = b""
    if head == key.encode():
        needs, _, body = body.partition(b"\n")
        remembered = load_pipeline(body, name) if _unchanged(needs, read) else None
        if remembered is not None:
            parsed[key] = (needs, remembered)
            return remembered
    pipeline, needed = read_pipeline(data, name, prefix, read, style)
    parsed[key] = (json.dumps(needed).encode(), pipeline)
    if prefix and head:
        # What the workspace says is asked more often than what a revision said.
        return pipeline
    try:
        files.private_directory(project.state_dir)
        head = key.encode() + b"\n" + json.dumps(needed).encode() + b"\n"
        files.atomic_write(path, head + dump_pipeline(pipeline), mode=0o600, fsync=False)
    except DvcxError:
        # Only a memory: a disk that refuses it must not fail a question.
        return pipeline
    return pipeline


def template_style(project: Project) -> tuple[str, str]:
    """How a mapping in a command becomes options, as the settings say."""
    return str(project.config.get("parsing.bool")), str(project.config.get("parsing.list"))


def read_pipeline(
    data: bytes, name: str, prefix: str, read: Read, style: Sequence[str]
) -> tuple[Pipeline, dict[str, str]]:
    """What the dvcx.yaml `name` says, and the files its templates read with the seal of each, "" for one that is absent."""
    from dvcx.io import yaml
    from dvcx.io.hashing import seal

    needed: dict[str, str] = {}
    known: dict[str, Mapping[str, Any]] = {}

    def values(path: str) -> Mapping[str, Any] | None:
        if path not in needed:
            held = read(path, yaml.MAX_BYTES)
            needed[path] = "" if held is None else seal(held).hex()
            if held is not None and path.startswith(WILDCARD):
                known[path] = {"files": held.decode("utf-8", "surrogateescape").split("\0")}
            elif held is not None:
                known[path] = yaml.load_params(held, prefix + path)
        return known.get(path)

    def document(path: str) -> Document | None:
        held = read(path, MAX_PIPELINE)
        needed[path] = "" if held is None else seal(held).hex()
        return None if held is None else yaml.load(held, prefix + path)

    whole = yaml.load(data, prefix + name)
    if not isinstance(whole.value, dict) or "include" not in whole.value:
        return parse_pipeline(whole, name, values, style), needed
    from dvcx.core.pipeline.including import joined, parts

    return joined(parts(whole, name, document, lambda one, file: parse_pipeline(one, file, values, style))), needed


def reader(project: Project) -> Read:
    """Reads files of the workspace, one at a time."""
    return lambda path, limit: files.read_record(project.root, path, limit)


def with_wildcards(project: Project, read: Read, entries: Mapping[str, LockEntry], *, there: bool) -> Read:
    """Reads files, and of `glob:PATTERN` the names of the files that match: the items of a map, NUL-joined.

    Where nothing is `there`, or nothing matches (it was never pulled), the items are those that were run, by the lock `entries`.
    """

    def answer(path: str, limit: int) -> bytes | None:
        if not path.startswith(WILDCARD):
            return read(path, limit)
        from dvcx.ops.inputs import names_matching

        pattern = path.removeprefix(WILDCARD)
        names = names_matching(project, pattern) if there else []
        if not names:
            globs, begins = Globs([pattern]), fixed_part(pattern)
            ends = {key.partition("@")[2] for key in entries if "@" in key}
            known = {path for entry in entries.values() for path in entry.deps}
            names = sorted(path for path in known if path[len(begins) + bool(begins) :] in ends and globs.names(path))
        return "\0".join(names).encode("utf-8", "surrogateescape") if names else None

    return answer


def _unchanged(needs: bytes, read: Read) -> bool:
    """Whether the files that were read for templates still are what they were."""
    if needs == b"{}":
        return True
    from dvcx.io.hashing import seal

    try:
        needed = json.loads(needs)
        for path, digest in needed.items():
            data = read(path, MAX_PIPELINE)
            if ("" if data is None else seal(data).hex()) != digest:
                return False
    except (ValueError, AttributeError, DvcxError):
        return False
    return True


def _lock_entries(data: bytes, name: str, prefix: str) -> dict[str, LockEntry]:
    base = parent(name)
    pipeline = join(base, PIPELINE)
    found = {}
    for stage, entry in decode_lock(data, prefix + name).items():
        found[address(pipeline, stage)] = _moved(entry, lambda path: resolve(base, path, prefix + name))
    return found


def below(entry: LockEntry, base: str) -> LockEntry:
    """An entry with project paths as the lock in the directory `base` holds it."""
    return _moved(entry, lambda path: relative(path, base))


def above(entry: LockEntry, base: str) -> LockEntry:
    """An entry of the lock in the directory `base` with project paths."""
    return _moved(entry, lambda path: resolve(base, path, join(base, LOCK)))


def _moved(entry: LockEntry, move: Callable[[str], str]) -> LockEntry:
    return LockEntry(
        entry.cmd,
        {move(path): content for path, content in entry.deps.items()},
        {move(path): values for path, values in entry.params.items()},
        {move(path): content for path, content in entry.outs.items()},
        tuple([move(path) for path in entry.absent]),
        {_moved_spec(spec, move): {move(path): used for path, used in files.items()} for spec, files in entry.used.items()},
        entry.env,
        entry.external,
    )


def _moved_spec(spec: str, move: Callable[[str], str]) -> str:
    kind, _, value = spec.partition(":")
    return f"{kind}:{move(value)}"


def _two_owners(path: str, first: str, other: str, second: str) -> Conflict:
    inside = "" if path == other else f" lies inside '{display(other)}', which belongs to {display(second)}, and"
    both = f"{display(first)} and {display(second)}" if path == other else display(first)
    return Conflict(
        f"'{display(path)}'{inside} belongs to {both}: a path has one owner",
        "remove one of the two (dvcx remove, or edit dvcx.yaml)",
    )


# Writing records


def write_pointer(project: Project, path: str, pointer: Pointer, *, file: str = "") -> str:
    """Write the pointer of a tracked path; its file. Last step of recording: the objects must be durable by now."""
    name = file or path + POINTER_SUFFIX
    files.write_record(project.root, name, encode_pointer(pointer), fsync=project.fsync != "none")
    return name


def write_lock(project: Project, changed: Mapping[str, LockEntry | None]) -> list[str]:
    """Put lock entries (by stage address; None takes one out) into the locks they belong to; the files written."""
    by_file: dict[str, dict[str, LockEntry | None]] = {}
    for key, entry in changed.items():
        pipeline, stage = split_address(key)
        by_file.setdefault(pipeline, {})[stage] = entry
    written = []
    for pipeline, entries in by_file.items():
        base = parent(pipeline)
        name = join(base, LOCK)
        _, lock = read_lock(project, name)
        for stage, entry in entries.items():
            if entry is None:
                lock.pop(stage, None)
            else:
                lock[stage] = below(entry, base)
        if files.write_record(project.root, name, encode_lock(lock), fsync=project.fsync != "none"):
            written.append(name)
    return written


def reap(project: Project, paths: Iterable[str]) -> None:
    """Remove half-written records that a killed dvcx left beside these paths. Hold the project's lock."""
    for directory in {parent(path) for path in paths}:
        with contextlib.suppress(DvcxError):
            files.reap(project.root, directory)
    with contextlib.suppress(DvcxError):
        files.reap(project.state_dir, "")


class Choice(NamedTuple):
    """What a command is about: targets (everything without any), or the recorded paths that wildcards name."""

    targets: tuple[str, ...] = ()
    globs: Globs | None = None


def choice(targets: Sequence[str], globs: Sequence[str]) -> Choice:
    """Targets or wildcards, as they were handed in; `UsageError` for both."""
    targets, globs = several(targets), several(globs)
    if targets and globs:
        hint = "quote the pattern, so that the shell leaves it alone: --glob 'data/*.png'"
        raise UsageError("--glob and targets exclude one another", hint)
    return Choice(targets, Globs(globs) if globs else None)


def within_reach(tracked: Tracked, globs: Globs) -> dict[str, Content]:
    """Recorded contents that wildcards name, and recorded directories that may hold what they name."""
    return {
        path: content
        for path, content in tracked.contents().items()
        if globs.names(path) or (content.kind == TREE and globs.leads(path))
    }


def nothing_named(globs: Globs) -> NotFound:
    """The error for wildcards that no recorded path matches."""
    return NotFound(
        f"no recorded path matches '{globs}'", "dvcx list shows what is tracked; '**' stands for any number of directories"
    )


def select(tracked: Tracked, targets: Sequence[str]) -> dict[str, Content]:
    """Recorded contents that targets name: a tracked path, one inside it, a directory around it, or a stage's address.

    The keys are the paths asked for where they lie inside a tracked directory. Without targets: everything.
    """
    contents = tracked.contents()
    if not targets:
        return contents
    chosen: dict[str, Content] = {}
    for target in targets:
        found = {path: content for path, content in contents.items() if contains(target, path)}
        for stage in tracked.stages:
            if stage.named(target):
                found.update({out.path: contents[out.path] for out in stage.outs if out.path in contents})
        if target.endswith(POINTER_SUFFIX) and target.removesuffix(POINTER_SUFFIX) in contents:
            path = target.removesuffix(POINTER_SUFFIX)
            found[path] = contents[path]
        if not found:
            owner = next((path for path in contents if contains(path, target)), "")
            if not owner:
                raise not_tracked(tracked, target)
            found[target] = contents[owner]
        chosen.update(found)
    return chosen


def not_tracked(tracked: Tracked, target: str) -> NotFound:
    """The error for a target that names nothing tracked."""
    from dvcx.core.spelling import did_you_mean

    known = [*tracked.pointers, *(out.path for stage in tracked.stages for out in stage.outs)]
    known += [stage.address for stage in tracked.stages]
    stage = tracked.stage_of(target)
    if stage is not None:
        return NotFound(f"{display(target)}: stage '{display(stage.address)}' has not been run", "dvcx repro")
    return NotFound(f"{display(target)} is not tracked", did_you_mean(target, known) or "dvcx list shows what is")


def owner_of(tracked: Tracked, path: str) -> str:
    """The recorded path that is, or holds, `path`."""
    return next((known for known in tracked.contents() if contains(known, path)), "")


def autostage(project: Project, paths: Iterable[str]) -> None:
    """`git add` records, when the project is in git and `core.autostage` is on."""
    names = sorted(set(paths))
    if project.git is not None and names and project.config.get("core.autostage"):
        git.add(project.git, names)


def ignore_outputs(project: Project, stages: Iterable[Stage], emit: Emit) -> None:
    """Have git ignore the cached outputs of stages. New ones that it keeps all the same, since it tracks them, are told."""
    outs = [out.path for stage in stages for out in stage.outs if out.cache]
    if project.git is None or not git.ignore_all(project.root, outs):
        return
    for path in sorted(git.tracked(project.git, outs)):
        shown = display(path)
        hint = f"let one of them keep it: git rm -r --cached {shown}; or write cache: false below the output in dvcx.yaml"
        emit(Warned(f"{shown}: git tracks this output as well", hint))


def unsafe_root(path: str) -> None:
    """Refuse the project's root as a tracked path."""
    if not path:
        raise UnsafeInput("the project's root cannot be tracked", "name the files or directories in it")
