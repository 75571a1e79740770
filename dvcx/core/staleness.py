"""Is a stage stale, and why: the only place that knows. Values in, reasons out; nothing is looked at here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

from dvcx.core.globs import fixed_part
from dvcx.core.objects import Content
from dvcx.core.paths import contains
from dvcx.core.pipeline.dependencies import CODE, condition_files, externals, files_wanted, spec
from dvcx.core.pipeline.params import MISSING, differences, pick, same, select
from dvcx.core.pipeline.schema import Stage, Want
from dvcx.core.records import LockEntry, Request, Used, encode_request, lines_of
from dvcx.errors import DvcxError, NotFound, display

# Kinds of reasons.
NEVER_RUN, ALWAYS, COMMAND = "never_run", "always_changed", "command"
DEP_CHANGED, DEP_MISSING, DEP_NEW, DEP_GONE = "dep_changed", "dep_missing", "dep_new", "dep_gone"
DEP_ADDED, DEP_REMOVED = "dep_added", "dep_removed"
ENV_CHANGED, ENV_NEW, ENV_GONE = "env_changed", "env_new", "env_gone"
PARAM_CHANGED, PARAM_MISSING, PARAM_NEW, PARAM_GONE = "param_changed", "param_missing", "param_new", "param_gone"
OUT_CHANGED, OUT_MISSING, OUT_NEW, OUT_GONE = "out_changed", "out_missing", "out_new", "out_gone"
UPSTREAM = "upstream"
LAST_FAILED = "last_failed"

# What an OUT_CHANGED reason says of its path: edited, or of another commit.
NOT_AS_RECORDED = "output is not as recorded"

# States of a verdict: nothing to do, only outputs to put back, will run, will run if something before it changes, and not
# wanted: its `when` is false.
FRESH, MISSING_OUTS, STALE, MAYBE, SKIPPED = "fresh", "missing", "stale", "upstream", "skipped"
WHEN = "when"

# What a run would do with a stage: the words of a dry run, of `why` and of `status`.
UNCHANGED, WOULD_RESTORE, WOULD_RUN, MIGHT_RUN = "unchanged", "would restore", "would run", "might run"
NOT_WANTED = "not wanted"
_COMING = {WOULD_RUN: "will be rewritten by", MIGHT_RUN: "may be rewritten by", WOULD_RESTORE: "will be restored by"}
_FIRST = {WOULD_RUN: "will run first", MIGHT_RUN: "may run first", WOULD_RESTORE: "will be restored first"}

_NOTHING: Mapping[Any, Any] = MappingProxyType({})


class Snapshot(NamedTuple):
    """What there is now, by path in the project.

    `contents` is what is at a path (None or absent: nothing). `params` the whole parsed file (None or absent: no such
    file). `details` how a path differs from the lock, in words ("2 files changed"), where somebody looked. `not_pulled` are
    directories that are taken as recorded in those parts that never came to this workspace: how many files that is.
    `used` are the files of `glob:` and `py:` dependencies, by the stage's address and the dependency. `env` holds digests of
    environment variables, "" for one that is not set. `unwanted` are stages whose `when` is false, with that condition.
    `external` is what external inputs are now, by address, "" for one that is absent; one that could not be asked is in
    `unasked` instead, with the failure.
    """

    contents: Mapping[str, Content | None]
    params: Mapping[str, Mapping[str, Any] | None] = _NOTHING
    details: Mapping[str, str] = _NOTHING
    not_pulled: Mapping[str, int] = _NOTHING
    used: Mapping[tuple[str, str], Mapping[str, Used]] = _NOTHING
    env: Mapping[str, str] = _NOTHING
    unwanted: Mapping[str, str] = _NOTHING
    external: Mapping[str, str] = _NOTHING
    unasked: Mapping[str, DvcxError] = _NOTHING


class Reason(NamedTuple):
    """One cause to run a stage: its `kind`, the path, key or stage it is about, and a line for people.

    `old` and `new` are what was compared, as far as it says more than the line: contents, values of a parameter, commands.
    `details` are the causes of this cause, where whoever found it knows them. `why` shows any kind, known or new.
    """

    kind: str
    subject: str
    text: str
    old: Any = None
    new: Any = None
    details: tuple[Reason, ...] = ()


class Verdict(NamedTuple):
    """What a run of everything would do with a stage, and all causes. `state` is fresh, missing, stale, upstream or skipped.

    `plan` is unchanged, would restore, would run, might run or not wanted. `outs` is the known result that would be restored,
    `remote` the one its bytes would come from, "" for the cache.
    """

    stage: Stage
    state: str
    reasons: tuple[Reason, ...] = ()
    plan: str = UNCHANGED
    outs: Mapping[str, Content] | None = None
    remote: str = ""


class Known(NamedTuple):
    """A result that is known; `remote` is the one that told it or holds it, "" where all of it is here."""

    outs: Mapping[str, Content]
    remote: str = ""


AskKnown = Callable[[Stage, Snapshot, LockEntry | None, tuple[Reason, ...]], Known | None]
"""Gives what would be restored for a stage with these reasons to run, None when it has to run."""

Inside = Callable[[str, Content, str], Content | None]
"""Gives what the directory at a path, with this content, has at another path inside it."""

Values = Callable[[str, Content], Mapping[str, Any] | None]
"""Gives what the params file at a path says when it has this content; None where nobody can tell."""


def judge(stage: Stage, locked: LockEntry | None, now: Snapshot) -> tuple[Reason, ...]:
    """Every cause to run `stage`; none means it is fresh. The paths of `locked` must be relative to the project.

    A frozen stage has no cause but an output that is missing; a stage that is not wanted has none.
    """
    if stage.address in now.unwanted:
        return ()
    if stage.frozen:
        missing = (out.path for out in stage.outs if now.contents.get(out.path) is None)
        return tuple(_reason(OUT_MISSING, path, f"{path}: output is missing") for path in missing)
    reasons: list[Reason] = []
    if stage.always_changed:
        reasons.append(Reason(ALWAYS, stage.address, "always_changed"))
    elif not (stage.deps or stage.wants or stage.params or stage.outs or stage.execution.env):
        reasons.append(Reason(ALWAYS, stage.address, "it has neither dependencies nor outputs, so it always runs"))
    if locked is None:
        reasons.append(Reason(NEVER_RUN, stage.address, "never run"))
        reasons += _missing_inputs(stage, now)
        return tuple(reasons)
    before, after = _command(locked.cmd), _command(stage.cmd)
    if before != after:
        reasons.append(
            _reason(
                COMMAND, stage.address, f"command changed: {_both(_shown(locked.cmd), _shown(stage.cmd))}", locked.cmd, stage.cmd
            )
        )
    reasons += _judge_deps(stage, locked, now)
    reasons += _judge_used(stage, locked, now)
    reasons += _judge_external(stage, locked, now)
    reasons += _judge_env(stage, locked, now)
    reasons += _judge_params(stage, locked, now)
    reasons += _judge_outs(stage, locked, now)
    return tuple(reasons)


def forecast(
    stages: Iterable[Stage],
    lock: Mapping[str, LockEntry],
    now: Snapshot,
    upstream: Mapping[str, Collection[str]],
    known: AskKnown | None = None,
    inside: Inside | None = None,
    values: Values | None = None,
) -> tuple[Verdict, ...]:
    """What a run of everything would do, for stages in the order they run. `upstream` is `Graph.upstream`.

    A stage behind one that will run has an UPSTREAM reason; when that is its only one, it may turn out to be fresh. Behind
    one whose result is `known` it is judged by that result. Without `known` nobody looked: outputs that are missing are
    taken to be in the cache, and nothing else is. An input that is missing because the stage that writes it has yet to run
    is no cause of its own. `inside` tells what a known directory has at a path in it, `values` what a known params file says;
    without, nobody knows.
    """
    verdicts: dict[str, Verdict] = {}
    contents, details, params = dict(now.contents), dict(now.details), dict(now.params)
    then = now._replace(contents=contents, details=details, params=params)
    told: set[str] = set()
    stages = tuple(stages)
    deps = {dep for stage in stages for dep in stage.deps}
    for stage in stages:
        before = () if stage.frozen else upstream.get(stage.address, ())
        waits = [
            verdict
            for verdict in (verdicts[need] for need in before if need in verdicts)
            if verdict.plan not in (UNCHANGED, NOT_WANTED) and not _settled(verdict, stage, now, inside is not None, told)
        ]
        coming = [out.path for verdict in waits for out in verdict.stage.outs]
        # What its condition reads may turn out otherwise.
        open_ = bool(stage.when and coming) and any(_overlaps(file, coming) for file in condition_files(stage))
        condition = now.unwanted.get(stage.address)
        if condition is not None and not open_:
            verdicts[stage.address] = Verdict(stage, SKIPPED, (not_wanted(stage, condition),), NOT_WANTED)
            continue
        locked = lock.get(stage.address)
        reasons = (
            *(
                reason
                for reason in judge(stage, locked, then)
                if reason.kind != DEP_MISSING or not _overlaps(reason.subject, coming)
            ),
            *(_waits_for(verdict, stage) for verdict in waits),
        )
        state = _state(reasons)
        found = known(stage, then, locked, reasons) if known and reasons and not waits else None
        plan = WOULD_RESTORE if found is not None else MIGHT_RUN if open_ else _plan(state, bool(waits), known is not None)
        outs, remote = found if found is not None else (None, "")
        verdicts[stage.address] = Verdict(stage, state, reasons, plan, outs, remote)
        for path, content in (outs or {}).items():
            if values is not None and path in params:
                found_values = values(path, content)
                if found_values is not None:
                    params[path] = found_values
                    told.add(path)
            if contents.get(path) != content:
                contents[path] = content
                details.pop(path, None)
                for dep in deps if inside is not None else ():
                    if dep != path and contains(path, dep):
                        contents[dep] = inside(path, content, dep) if inside is not None else None
                        details.pop(dep, None)
    return tuple(verdicts.values())


def plan_text(plan: str, remote: str) -> str:
    """A plan in words: "would restore its known result from remote 'origin'"; `remote` is "" for the cache."""
    where = f" from remote '{display(remote)}'" if remote else ""
    return f"{plan} its known result{where}" if plan == WOULD_RESTORE else plan


def recalling(verdict: Verdict, told: str) -> Verdict:
    """The verdict on a stage whose last run did not end well, with what is `told` of that: in place of "never run", too."""
    reasons = (reason for reason in verdict.reasons if reason.kind != NEVER_RUN)
    return verdict._replace(reasons=(_reason(LAST_FAILED, verdict.stage.address, told), *reasons))


def not_wanted(stage: Stage, condition: str) -> Reason:
    """Why a stage is left out of a run: a condition of its `when` is false."""
    return _reason(WHEN, stage.address, f"when: {condition} is false")


def request(stage: Stage, now: Snapshot, near: Callable[[str], str] | None = None) -> Request:
    """The stage's action as it can be run anywhere.

    Raises `NotFound` when a dependency, a file of params or a parameter is missing; `near` hints at what a path may be called.
    """
    for reason in _missing_inputs(stage, now):
        meant = _meant(reason, now, near) if near is not None else ""
        hint = f"{meant} Or " * bool(meant) + "create it, restore it (dvcx checkout), or repair dvcx.yaml"
        raise NotFound(f"{_told(stage, reason)}: {reason.text}", hint)
    files = read_files(stage, now)
    code = _code(stage, now.used)
    return Request(
        stage.cmd,
        stage.wdir,
        {path: content for path, content in files.items() if content is not None and path not in code},
        {of.file: select(now.params[of.file] or {}, of.keys) for of in stage.params},
        tuple(sorted(out.path for out in stage.outs)),
        {name: now.env.get(name, "") for name in stage.execution.env},
        code,
        external_inputs(stage, now),
    )


def _meant(reason: Reason, now: Snapshot, near: Callable[[str], str]) -> str:
    file, _, key = reason.subject.partition(":")
    if reason.kind != PARAM_MISSING:
        return near(reason.subject)
    # Imported here: only a mistake has to pay for it.
    from dvcx.core.spelling import did_you_mean

    return did_you_mean(key, _keys(now.params.get(file) or {}))


def _keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        yield f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _keys(value, f"{prefix}{key}.")


def _code(stage: Stage, used: Mapping[tuple[str, str], Mapping[str, Used]]) -> dict[str, str]:
    """Files of which only what their code says counts, with its digest; none that another dependency takes byte by byte."""
    found: dict[str, str] = {}
    whole = set(stage.deps)
    for want in files_wanted(stage):
        for path, file in used.get((stage.address, spec(want)), {}).items():
            if file.code:
                found[path] = file.code
            else:
                whole.add(path)
    return {path: digest for path, digest in found.items() if path not in whole}


def recorded_request(stage: Stage, entry: LockEntry) -> Request:
    """The action that the last good run of the stage was, as far as the stage still has the same wdir and outputs."""
    deps = dict(entry.deps)
    code: dict[str, str] = {}
    for files in entry.used.values():
        deps.update({path: file.content for path, file in files.items() if not file.code})
        code.update({path: file.code for path, file in files.items() if file.code})
    code = {path: digest for path, digest in code.items() if path not in deps}
    return Request(entry.cmd, stage.wdir, deps, entry.params, tuple(sorted(entry.outs)), entry.env, code, entry.external)


def action_key(stage: Stage, now: Snapshot, near: Callable[[str], str] | None = None) -> bytes:
    """The canonical bytes whose BLAKE3 is the key of the stage's action. Raises what `request` raises."""
    return encode_request(request(stage, now, near))


def lock_entry(stage: Stage, before: Snapshot, after: Snapshot) -> LockEntry:
    """What the lock says after a good run: inputs as they were `before` it, outputs as they are `after`; project paths.

    Raises `NotFound` when one of them is missing.
    """
    for reason in _missing_inputs(stage, before):
        raise NotFound(f"{_told(stage, reason)}: {reason.text}", "create it, or repair dvcx.yaml")
    outs: dict[str, Content] = {}
    for out in stage.outs:
        content = after.contents.get(out.path)
        if content is None:
            raise NotFound(
                f"{stage.told(out.path)}: {display(out.path)}: output is missing",
                "let the command write it, or remove it from the stage's outs",
            )
        outs[out.path] = content
    deps = {path: content for path in stage.deps if (content := before.contents.get(path)) is not None}
    return LockEntry(
        stage.cmd,
        deps,
        {of.file: select(before.params[of.file] or {}, of.keys) for of in stage.params},
        outs,
        absent=tuple(path for path in stage.deps if path not in deps),
        used={spec(want): before.used[stage.address, spec(want)] for want in files_wanted(stage)},
        env={name: before.env.get(name, "") for name in stage.execution.env},
        external=external_inputs(stage, before),
    )


def read_files(stage: Stage, now: Snapshot) -> dict[str, Content | None]:
    """Every path a stage reads, listed or found by a wildcard or an import, with what is there; without params files."""
    found: dict[str, Content | None] = {}
    for want in files_wanted(stage):
        found.update({path: used.content for path, used in now.used.get((stage.address, spec(want)), {}).items()})
    found.update({path: now.contents.get(path) for path in stage.deps})
    return found


def _told(stage: Stage, reason: Reason) -> str:
    """The stage, with the line of what a reason is about: of a parameter, that of its file."""
    if reason.kind == PARAM_MISSING:
        return stage.told(reason.subject.partition(":")[0])
    wanted = (want.value for want in files_wanted(stage) if reason.text.startswith(display(spec(want))))
    return stage.told(next(wanted, reason.subject))


def external_inputs(stage: Stage, now: Snapshot) -> dict[str, str]:
    """What a stage's external inputs are, by address. Raises the failure that kept one from being asked."""
    found = {}
    for want in externals(stage):
        if want.value in now.unasked:
            raise now.unasked[want.value]
        found[want.value] = now.external.get(want.value, "")
    return found


def _missing_inputs(stage: Stage, now: Snapshot) -> Iterator[Reason]:
    for path in stage.deps:
        if now.contents.get(path) is None and path not in stage.optional:
            yield _reason(DEP_MISSING, path, f"{path}: is missing")
    for want in files_wanted(stage):
        if not now.used.get((stage.address, spec(want))) and not want.optional:
            yield _stands_for_nothing(want)
    for want in externals(stage):
        if now.external.get(want.value) == "" and not want.optional:
            yield _reason(DEP_MISSING, want.value, f"{want.value}: is missing")
    for of in stage.params:
        values = now.params.get(of.file)
        if values is None:
            yield _reason(DEP_MISSING, of.file, f"{of.file}: is missing")
            continue
        for key in of.keys:
            if pick(values, key) is MISSING:
                yield _reason(PARAM_MISSING, f"{of.file}:{key}", f"{of.file}: {key} is missing")


def _judge_deps(stage: Stage, locked: LockEntry, now: Snapshot) -> Iterator[Reason]:
    for path in stage.deps:
        content = now.contents.get(path)
        if content is None and path not in stage.optional:
            yield _reason(DEP_MISSING, path, f"{path}: is missing")
        elif content is None:
            if path in locked.deps:
                yield _reason(DEP_REMOVED, path, f"{path}: was there, and is missing now")
            elif path not in locked.absent:
                yield _reason(DEP_NEW, path, f"new dependency {path}, which is missing")
        elif path in locked.absent:
            yield _reason(DEP_ADDED, path, f"{path}: was missing, and is there now")
        elif path not in locked.deps:
            yield _reason(DEP_NEW, path, f"new dependency {path}")
        elif not _is(content, locked.deps[path]):
            yield _reason(
                DEP_CHANGED,
                path,
                f"{path}: {now.details.get(path) or _change(locked.deps[path], content)}",
                locked.deps[path],
                content,
            )
    for path in (*locked.deps, *locked.absent):
        if path not in stage.deps:
            yield _reason(DEP_GONE, path, f"{path} is no longer a dependency")


def _judge_used(stage: Stage, locked: LockEntry, now: Snapshot) -> Iterator[Reason]:
    known = set()
    for want in files_wanted(stage):
        name = spec(want)
        known.add(name)
        files = now.used.get((stage.address, name)) or {}
        old = locked.used.get(name)
        if not files and not want.optional:
            yield _stands_for_nothing(want)
        elif old is None:
            yield _reason(DEP_NEW, name, f"new dependency {name}")
        else:
            yield from _changes(name, old, files, imported=want.kind == CODE)
    for name in locked.used:
        if name not in known:
            yield _reason(DEP_GONE, name, f"{name} is no longer a dependency")


def _changes(name: str, old: Mapping[str, Used], new: Mapping[str, Used], *, imported: bool) -> Iterator[Reason]:
    if old == new:
        return
    for path in sorted(new):
        if path not in old:
            yield _reason(DEP_ADDED, path, f"{path}: {'is imported now' if imported else 'added'} ({name})")
        elif not _is_used(old[path], new[path]):
            before, after = old[path].content, new[path].content
            yield _reason(DEP_CHANGED, path, f"{path}: {_change(before, after)} ({name})", before, after)
    for path in sorted(old):
        if path not in new:
            yield _reason(DEP_REMOVED, path, f"{path}: {'is no longer imported' if imported else 'removed'} ({name})")


def _is_used(old: Used, new: Used) -> bool:
    return old.code == new.code if old.code and new.code else _is(old.content, new.content)


def _stands_for_nothing(want: Want) -> Reason:
    name = spec(want)
    if want.kind == CODE:
        return _reason(DEP_MISSING, want.value, f"{name}: is missing")
    return _reason(DEP_MISSING, fixed_part(want.value) or name, f"{name}: no file matches")


def _judge_external(stage: Stage, locked: LockEntry, now: Snapshot) -> Iterator[Reason]:
    """What external inputs that were asked give as causes; one that could not be asked is taken to be as recorded."""
    wants = {want.value: want for want in externals(stage)}
    for address, want in wants.items():
        old, new = locked.external.get(address), now.external.get(address)
        if new == "" and not want.optional:
            yield _reason(DEP_MISSING, address, f"{address}: is missing")
        elif old is None:
            yield _reason(DEP_NEW, address, f"new dependency {address}")
        elif new is not None and new != old:
            kind = DEP_ADDED if not old else DEP_CHANGED if new else DEP_REMOVED
            yield _reason(kind, address, f"{address}: {_external_change(old, new)}", old, new)
    for address in locked.external:
        if address not in wants:
            yield _reason(DEP_GONE, address, f"{address} is no longer a dependency")


def _external_change(old: str, new: str) -> str:
    if not old:
        return "was missing, and is there now"
    if not new:
        return "was there, and is missing now"
    # A digest says nothing to people; what a server calls a version does.
    first = new.partition(" ")[0]
    return "changed" if first in ("file", "exec", "tree", "list") else f"changed ({old} → {new})"


def _judge_env(stage: Stage, locked: LockEntry, now: Snapshot) -> Iterator[Reason]:
    for name in stage.execution.env:
        old, new = locked.env.get(name), now.env.get(name, "")
        if old is None:
            yield _reason(ENV_NEW, name, f"new environment variable {name}")
        elif old != new:
            text = "is no longer set" if not new else "is set now" if not old else "changed"
            yield _reason(ENV_CHANGED, name, f"environment variable {name} {text}")
    for name in locked.env:
        if name not in stage.execution.env:
            yield _reason(ENV_GONE, name, f"environment variable {name} is no longer one of its inputs")


def _judge_params(stage: Stage, locked: LockEntry, now: Snapshot) -> Iterator[Reason]:
    for of in stage.params:
        file = of.file
        values = now.params.get(file)
        old = locked.params.get(file)
        if values is None:
            yield _reason(DEP_MISSING, file, f"{file}: is missing")
            continue
        if not of.keys:
            if old is None:
                yield _reason(PARAM_NEW, file, f"new parameters {file}")
            else:
                yield from _differences(file, old, values, "")
            continue
        for key in of.keys:
            value = pick(values, key)
            if value is MISSING:
                yield _reason(PARAM_MISSING, f"{file}:{key}", f"{file}: {key} is missing")
            elif old is None or key not in old:
                yield _reason(PARAM_NEW, f"{file}:{key}", f"new parameter {file}: {key}")
            elif not same(old[key], value):
                yield from _differences(file, old[key], value, key)
        for key in old or ():
            if key not in of.keys:
                yield _reason(PARAM_GONE, f"{file}:{key}", f"{file}: {key} is no longer a parameter")
    files = {of.file for of in stage.params}
    for file in locked.params:
        if file not in files:
            for key in locked.params[file]:
                yield _reason(PARAM_GONE, f"{file}:{key}", f"{file}: {key} is no longer a parameter")


def _differences(file: str, old: object, new: object, key: str) -> Iterator[Reason]:
    for name, before, after in differences(old, new, key):
        if before is MISSING:
            text = f"{file}: {name} added ({value_text(after)})"
        elif after is MISSING:
            text = f"{file}: {name} removed (was {value_text(before)})"
        else:
            text = f"{file}: {name} {value_text(before)} → {value_text(after)}"
        yield _reason(PARAM_CHANGED, f"{file}:{name}", text, _plain(before), _plain(after))


def _judge_outs(stage: Stage, locked: LockEntry, now: Snapshot) -> Iterator[Reason]:
    for out in stage.outs:
        path = out.path
        content = now.contents.get(path)
        if path not in locked.outs:
            yield _reason(OUT_NEW, path, f"new output {path}")
        elif content is None:
            yield _reason(OUT_MISSING, path, f"{path}: output is missing")
        elif not _is(content, locked.outs[path]):
            detail = now.details.get(path)
            yield _reason(
                OUT_CHANGED, path, f"{path}: {NOT_AS_RECORDED}" + (f" ({detail})" if detail else ""), locked.outs[path], content
            )
    paths = {out.path for out in stage.outs}
    for path in locked.outs:
        if path not in paths:
            yield _reason(OUT_GONE, path, f"{path} is no longer an output")


def _is(a: Content, b: Content) -> bool:
    return (a.kind, a.id, a.seal, a.executable) == (b.kind, b.id, b.seal, b.executable)


def _change(old: Content, new: Content) -> str:
    if old.kind != new.kind:
        return "it was a file and is a directory now" if new.kind == "tree" else "it was a directory and is a file now"
    if (old.id, old.seal) == (new.id, new.seal):
        return "it may be executed now" if new.executable else "it may no longer be executed"
    return "changed"


def _settled(verdict: Verdict, stage: Stage, now: Snapshot, inside: bool, told: Collection[str]) -> bool:
    """Whether all that `stage` reads of what `verdict` would restore is known by content: whole dependencies, or in them."""
    # Which files a wildcard or an import finds among what is restored is not known beforehand, nor what a condition then says.
    if verdict.outs is None or files_wanted(stage) or any(_overlaps(file, verdict.outs) for file in condition_files(stage)):
        return False
    params = [of.file for of in stage.params]
    read = [path for path in verdict.outs if _overlaps(path, (*stage.deps, *params))]
    changed = [path for path in read if verdict.outs[path] != now.contents.get(path)]
    return bool(read) and all(
        (path in told or not _overlaps(path, params))
        and all(dep == path or (inside and contains(path, dep)) for dep in stage.deps if _overlaps(path, (dep,)))
        for path in changed
    )


def _waits_for(verdict: Verdict, stage: Stage) -> Reason:
    name = verdict.stage.address
    reads = (*stage.deps, *(of.file for of in stage.params), *condition_files(stage))
    paths = [out.path for out in verdict.stage.outs if _overlaps(out.path, reads)]
    if not paths:
        return _reason(UPSTREAM, name, f"{name} {_FIRST[verdict.plan]}")
    more = f" and {len(paths) - 2:,} more" if len(paths) > 3 else ""
    named = ", ".join(paths[: 2 if more else 3])
    return _reason(UPSTREAM, name, f"{named}{more} {_COMING[verdict.plan]} {name}")


def _plan(state: str, waits: bool, asked: bool) -> str:
    if state == FRESH:
        return UNCHANGED
    if state == MISSING_OUTS and not asked:
        return WOULD_RESTORE
    return MIGHT_RUN if state == MAYBE or (state == MISSING_OUTS and waits) else WOULD_RUN


def _state(reasons: Collection[Reason]) -> str:
    kinds = {reason.kind for reason in reasons}
    if not kinds:
        return FRESH
    if kinds == {UPSTREAM}:
        return MAYBE
    return MISSING_OUTS if kinds <= {OUT_MISSING, UPSTREAM} else STALE


def _overlaps(path: str, others: Iterable[str]) -> bool:
    return any(contains(other, path) or contains(path, other) for other in others)


def _command(cmd: str | tuple[str, ...]) -> tuple[str, ...]:
    """A command without the whitespace a shell ignores. One line and a list of one line are the same command."""
    return tuple(_squeeze(line) for line in lines_of(cmd))


# What keeps its whitespace (quoted text, an escaped character), a continued line, and whitespace of either kind. Compiled when
# the first command is compared.
_TOKEN = r"'[^']*'|\"(?:[^\"\\]|\\.)*+\"|\\\n[ \t]*|\\.|[ \t]*\n[ \t\n]*|[ \t]+|[^'\"\\ \t\n]+|."


def _squeeze(line: str) -> str:
    # A here-document and unbalanced quotes (an apostrophe in a comment) keep every blank: better run once too often.
    if "<<" in line:
        return line.rstrip("\n")
    parts: list[str] = []
    for token in re.findall(_TOKEN, line.strip(" \t\n"), re.DOTALL):
        if token in ("'", '"'):
            return line.strip()
        if token[0] in " \t\n" or token[:2] == "\\\n":
            token = "\n" if "\n" in token and token[0] != "\\" else " "
            if token == " " and parts and parts[-1] in (" ", "\n"):
                continue
        parts.append(token)
    return "".join(parts)


def _shown(cmd: str | tuple[str, ...]) -> str:
    return cmd.strip() if isinstance(cmd, str) else " && ".join(line.strip() for line in cmd)


def _both(old: str, new: str) -> str:
    """Both commands, long ones cut to where they differ."""
    if max(len(old), len(new)) > 160:
        shorter = min(len(old), len(new))
        start = max(0, next((at for at in range(shorter) if old[at] != new[at]), shorter) - 40)
        old, new = _window(old, start), _window(new, start)
    return f"'{old}' → '{new}'"


def _window(text: str, start: int) -> str:
    return ("…" if start else "") + text[start : start + 120] + ("…" if len(text) > start + 120 else "")


def value_text(value: object) -> str:
    """A parameter's value for people, cut to 60 characters."""
    text = f"'{value}'" if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:59] + "…"


def _plain(value: Any) -> Any:
    return None if value is MISSING else value


def _reason(kind: str, subject: str, text: str, old: Any = None, new: Any = None) -> Reason:
    return Reason(kind, subject, display(text), old, new)
