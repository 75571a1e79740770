"""exec-action: run one action by its key, with nothing but a cache and a remote; and make the request that this needs."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.objects import ALGORITHMS, TREE, Content, check_seal
from dvcx.core.pipeline.dependencies import files_wanted, spec
from dvcx.core.pipeline.graph import find
from dvcx.core.pipeline.schema import Stage
from dvcx.core.records import Action, Asked, Request, Terms
from dvcx.core.staleness import Snapshot, request
from dvcx.errors import NotFound, StageFailed, UnsafeInput, UsageError, display
from dvcx.events import Emit, Noted, Warned, ignore
from dvcx.io.files import private_directory
from dvcx.io.runners.local import Outcome
from dvcx.io.store.actions import keep_action, read_action, read_request, write_request
from dvcx.io.store.intake import Intake
from dvcx.io.store.scratch import scratch
from dvcx.io.store.store import MAX_STORE_JSON, Store, read_store_json
from dvcx.io.store.writer import Writer
from dvcx.io.workspace import look
from dvcx.ops import actions, records
from dvcx.ops.executing import check_code, check_inputs, environment_of, furnished, run_in, take
from dvcx.ops.fetch import bring_objects
from dvcx.ops.placed import Parts
from dvcx.ops.snapshot import LONG, snapshot
from dvcx.ops.transfer import holds, move, needed, not_on
from dvcx.project import bare_project, command_environment

if TYPE_CHECKING:
    from dvcx.io.runners.protocol import Job
    from dvcx.project import Project


@dataclass(frozen=True, slots=True)
class ExecutedOut:
    """One output, by content."""

    path: str
    id: str
    size: int


@dataclass(frozen=True, slots=True)
class Executed:
    """How it went: `how` is requested (only the request was made), known (there was a result) or ran; seconds of wall time.

    `remote` is where request or result went too, "" for the cache alone.
    """

    key: str
    how: str
    seconds: float
    remote: str
    outs: tuple[ExecutedOut, ...]


def exec_action(
    key: str, *, project: Project | None = None, remote: str = "", cache: str = "", force: bool = False, emit: Emit = ignore
) -> Executed:
    """Run the action whose request is in the cache or on the remote, and keep its result in both.

    `remote` is a URL, or the name of one of the project's; `cache` a directory (the project's without it). A result that is known
    is not made again unless `force`. Raises `StageFailed` when the command fails or leaves an output unwritten, and
    `IntegrityError`, `UnsafeInput` for what does not prove itself.
    """
    try:
        check_seal(key, "key")
    except UnsafeInput:
        hint = f"dvcx exec-action --request {display(key)} prints the key of the stage called so"
        raise UsageError(f"'{display(key)}' is no key of an action: that is 64 hexadecimal digits", hint) from None
    place = _place(project, remote, cache)
    store = place.remote("", emit) if place.config.remotes() and (remote or project is None) else None
    local = place.cache(emit, write=True)
    try:
        with place.cache_writer_lock("dvcx exec-action", emit):
            return _exec(place, local, store, key, force=force, emit=emit)
    finally:
        local.close()
        if store is not None:
            store.close()


def make_request(project: Project, target: str, *, remote: str = "", emit: Emit = ignore) -> Executed:
    """Keep the request of a stage, as it would run now, and all its inputs, in the cache and on a remote ("": only the cache)."""
    tracked = records.load(project)
    found = find(tracked.graph, target)
    if len(found) != 1:
        raise UsageError(f"'{display(target)}' names {len(found)} stages", "name one stage")
    (stage,) = found
    place = _place(project, remote, "")
    cache = place.cache(emit, write=True)
    store = place.remote("", emit, write=True) if remote else None
    try:
        with place.cache_writer_lock("dvcx exec-action", emit):
            asked = asked_of(project, tracked, stage, emit)
            refuse_external(asked.request, f"stage '{display(stage.address)}'")
            key = keep_request(project, cache, place, store, asked, emit)
        return Executed(key, "requested", 0.0, store.label if store is not None else "", ())
    finally:
        cache.close()
        if store is not None:
            store.close()


def refuse_external(asked: Request, what: str) -> None:
    """`UsageError` for an action with inputs outside the project: nothing can provide them by content."""
    if asked.external:
        raise UsageError(
            f"{what} reads {display(min(asked.external))}, outside the project: it can only run where that is, in the project",
            "track a copy (dvcx add), or let a stage of its own download it",
        )


def asked_of(project: Project, tracked: records.Tracked, stage: Stage, emit: Emit) -> Asked:
    """The action that a run of the stage would be now, and its terms."""
    index = project.stat_index(emit)
    parts = Parts(project, tracked, index, emit)
    try:
        rules = project.rules()
        now: Snapshot = snapshot(
            project, [stage], tracked.lock, index=index, rules=rules, emit=emit, parts=parts, patience=LONG
        )
        return asked_now(stage, now)
    finally:
        parts.close()
        index.close()


def asked_now(stage: Stage, now: Snapshot) -> Asked:
    """The action of a stage as the snapshot has it, and its terms. Raises `NotFound` for an input that is missing."""
    action = request(stage, now)
    used = (now.used.get((stage.address, spec(want)), {}) for want in files_wanted(stage))
    code = {path: file.content for files in used for path, file in files.items() if path in action.code}
    return Asked(action, Terms(stage.execution.timeout, stage.execution.retries, code))


def keep_request(project: Project, cache: Store, place: Project, store: Store | None, asked: Asked, emit: Emit) -> str:
    """Keep all that an action reads, then its request, in the cache and in a store; its key. Hold the cache for writing."""
    contents = {**asked.request.deps, **asked.terms.code}
    store_inputs(project, cache, contents)
    key = write_request(cache.backend, asked)
    if store is not None:
        _send(place, cache, store, contents, emit)
        write_request(store.backend, asked)
    return key


def store_inputs(project: Project, cache: Store, contents: Mapping[str, Content]) -> None:
    """Keep inputs of a stage that lie in the workspace, also those that git tracks, in the cache.

    Raises `NotFound` for one that is neither there nor here, or is another one here.
    """
    from dvcx.io.statindex import Memory

    with project.writer(cache) as writer:
        intake = Intake(writer, project.algorithm)
        for path, content in contents.items():
            if holds(cache, {path: content}):
                continue
            real = os.path.realpath(f"{project.root}/{path}")
            at = real[len(project.root) + 1 :] if real.startswith(f"{project.root}/") and content.kind != TREE else path
            if look(project.root, at, index=Memory(), sink=intake, rules=project.rules()) != content:
                raise NotFound(f"{display(path)}: the input is neither in the cache nor in the workspace", "dvcx pull")
        writer.commit()


def _exec(place: Project, cache: Store, store: Store | None, key: str, *, force: bool, emit: Emit) -> Executed:
    readable = store is not None and actions.policy(place, place.remote_name()) != "off"
    known = None if force else _known(cache, store if readable else None, key)
    label = store.label if store is not None else ""
    if known is not None:
        return Executed(key, "known", 0.0, label, _outs(known.outs))
    try:
        asked = read_request(cache.backend, key, cache.label)
    except NotFound:
        if store is None:
            raise
        asked = read_request(store.backend, key, store.label)
    refuse_external(asked.request, f"action {key[:12]}…")
    environment = environment_of(asked.request, command_environment())
    if store is not None:
        contents = {**asked.request.deps, **asked.terms.code}
        bring_objects(place, store, cache, needed(contents, cache, store), place.jobs, emit=emit)
    outs, seconds = _attempts(place, cache, key, asked, environment, emit)
    action = Action(key, outs)
    kept = keep_action(cache.backend, action, cache.label)
    if store is not None and actions.policy(place, place.remote_name()) == "write":
        _send(place, cache, store, outs, emit)
        kept = keep_action(store.backend, action, store.label)
    if not kept.own:
        note = actions.conflict_note(store.label if store is not None else cache.label, action, kept.action)
        # Who had it run again all the same, also through a runner, waits for another result.
        emit(Warned(note.message) if force else note)
    return Executed(key, "ran", seconds, label, _outs(outs))


def _attempts(
    place: Project, cache: Store, key: str, asked: Asked, environment: Mapping[str, str], emit: Emit
) -> tuple[dict[str, Content], float]:
    """Run the command in a private directory, anew each time, as often as the terms say; (outputs, seconds)."""
    tries = asked.terms.retries + 1
    for attempt in range(1, tries + 1):
        with furnished(place, cache, asked.request, asked.terms.code, emit) as room:
            check_code(room)
            outcome = run_in(room, environment, key=key, hear=None, timeout=asked.terms.timeout)
            try:
                if not outcome.good:
                    raise failure(key, outcome)
                check_inputs(room)
                return take(place, cache, room), outcome.wall
            except StageFailed as error:
                if outcome.good or attempt == tries:
                    raise
                emit(Noted(f"{error.message}; attempt {attempt + 1} of {tries} follows"))
    raise AssertionError("unreachable")


def failure(key: str, outcome: Outcome) -> StageFailed:
    """The error for a command that did not end well."""
    return StageFailed(f"{action_words(key)}the command {outcome.how}: {display(outcome.command)}", "what it printed is above")


def action_words(key: str) -> str:
    """What an error about an action begins with."""
    return f"action {key[:12]}…: "


def _known(cache: Store, store: Store | None, key: str) -> Action | None:
    """A result all of whose outputs are where it is."""
    for place in (cache, store):
        action = read_action(place.backend, key, place.label) if place is not None else None
        if place is not None and action is not None:
            with suppress(NotFound):
                if not place.missing(needed(action.outs, cache, store).objects):
                    return action
    return None


def _send(place: Project, cache: Store, store: Store, contents: Mapping[str, Content], emit: Emit) -> None:
    """Bring to a remote what it lacks of some contents."""
    objects = needed(contents, cache, store).objects
    absent = store.missing(objects)
    private_directory(place.state_dir)
    with scratch(f"{place.state_dir}/tmp") as directory:
        compress = place.compresses(place.remote_name())
        with Writer(store, directory, compress=compress, fsync=place.fsync) as writer:
            move(absent, cache, writer, jobs=place.jobs, lacking=not_on(cache, objects), emit=emit)
            writer.commit()


def _outs(outs: Mapping[str, Content]) -> tuple[ExecutedOut, ...]:
    return tuple(ExecutedOut(path, content.id, content.size) for path, content in sorted(outs.items()))


def _place(project: Project | None, remote: str, cache: str) -> Project:
    """The project with the remote asked for as its default; one that is none around a cache and a URL elsewhere."""
    from dataclasses import replace

    if project is not None and not cache:
        if not remote:
            return project
        values = dict(project.config.values)
        # The address of one of the project's remotes is that remote, with what is set for it: credentials, and who may write.
        urls = {project.config.remote(name)["url"].rstrip("/"): name for name in project.config.remotes()}
        remote = urls.get(remote.rstrip("/"), remote)
        if remote not in project.config.remotes():
            if "://" not in remote and not os.path.isabs(remote):
                project.remote_name(remote)
            values["remote.exec.url"] = remote
        values["core.remote"] = remote if remote in project.config.remotes() else "exec"
        return replace(project, config=project.config._replace(values=values))
    if not cache:
        raise UsageError("outside of a project there is no cache", "dvcx exec-action KEY --cache DIR --remote URL")
    if not remote:
        algorithm = _algorithm(bare_project(f"{cache}-exec", cache, "", algorithm=next(iter(ALGORITHMS))), cache, ignore)
        return bare_project(f"{cache}-exec", cache, "", algorithm=algorithm)
    place = bare_project(f"{cache}-exec", cache, remote, algorithm=next(iter(ALGORITHMS)))
    return bare_project(f"{cache}-exec", cache, remote, algorithm=_algorithm(place, cache, ignore))


def _algorithm(place: Project, cache: str, emit: Emit) -> str:
    """How the cache, or else the remote, names objects."""
    backends = [place.cache_backend()]
    if place.config.remotes():
        backends.append(place.remote_backend("exec", emit))
    found = place.algorithm
    for backend in reversed(backends):
        with suppress(NotFound):
            found = str(read_store_json(b"".join(backend.stream("store.json", MAX_STORE_JSON)), backend.url)["hash"])
        backend.close()
    return found


def command_line(job: Job, *, cache: str = "") -> list[str]:
    """What a runner starts for a job: with a cache of its own, or in the project it is started in."""
    line = [sys.executable, "-m", "dvcx", "exec-action", "--quiet", job.key]
    line += ["--cache", cache] if cache else []
    line += ["--remote", job.remote] if job.remote else []
    return line + (["--force"] if job.force else [])
