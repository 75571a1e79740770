"""Running an action in a private directory that holds its declared inputs and nothing else."""

from __future__ import annotations

import json
import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dvcx.core.objects import DIR, EXEC, FILE, TREE, Content, Entry, entry_content
from dvcx.core.paths import check_path, contains, join, parent
from dvcx.core.pipeline.dependencies import PASSED_OVER
from dvcx.core.records import Request, lines_of
from dvcx.errors import IntegrityError, NotFound, StageFailed, UsageError, display
from dvcx.events import Emit
from dvcx.io import place
from dvcx.io.runners.local import Hear, Outcome, run_commands
from dvcx.io.statindex import Memory
from dvcx.io.store.intake import Intake
from dvcx.io.store.store import Store, Wanted, wanted
from dvcx.io.workspace import NO_RULES, Looking, Rules, look
from dvcx.ops.inputs import MAX_CODE, code_digest, environment_digests
from dvcx.ops.looking import stored_trees

if TYPE_CHECKING:
    from dvcx.io.runners.witness import Witness
    from dvcx.project import Project

MARK = "DVCX_ACTION"
GRAIN = 0.02
"""Seconds: finer than this no file system of today tells two moments apart."""
Facts = tuple[int, int, int, int, int]
# What programs leave beside what they read is nobody's change: bytecode of Python.
_RULES = Rules(lambda path, is_directory: path.rpartition("/")[2] in PASSED_OVER, "", "")
_YAML_WORDS = frozenset({"true", "false", "yes", "no", "on", "off", "null", "y", "n"})


@dataclass(frozen=True, slots=True)
class Room:
    """A private directory with the inputs of an action in it; `path` is absolute and gone with the block it was made for.

    `inputs` are what it holds by content, `params` the files that were written from values.
    """

    path: str
    request: Request
    inputs: Mapping[str, Content]
    params: Mapping[str, bytes]
    before: Mapping[str, Facts]


@contextmanager
def furnished(project: Project, cache: Store, request: Request, beside: Mapping[str, Content], emit: Emit) -> Iterator[Room]:
    """A private directory with all an action declares: `deps` and what is `beside` them by content, params written anew.

    Raises `NotFound` for objects the cache lacks, `UsageError` for params that cannot be written from their values.
    """
    lacking = set(request.code) - set(beside)
    if lacking:
        raise UsageError(
            f"{display(min(lacking))}: of this file only what its code says is known, not its bytes",
            "give the py: dependency `exact: true`, then make the request again",
        )
    inputs = {**request.deps, **beside}
    with place.Staging(project.staging_dir) as staging:
        root = staging.directory("w")
        jobs: dict[Wanted, list[place.Target]] = {}
        for path, content in inputs.items():
            _spell_out(root, path, content, cache, jobs)
        for path in (*request.outs, *request.params, join(request.wdir, "x") if request.wdir else "x"):
            os.makedirs(f"{root}/{parent(path)}" if parent(path) else root, exist_ok=True)
        place.stage(
            cache,
            jobs,
            links=("reflink", "copy"),
            workers=2,
            advanced=lambda count, size: None,
            absent=lambda lost: _lost(lost, cache),
        )
        params: dict[str, bytes] = {}
        for file, values in request.params.items():
            if not any(contains(path, file) for path in inputs):
                params[file] = params_text(file, values).encode()
                with open(f"{root}/{file}", "xb") as target:
                    target.write(params[file])
        before = _facts(root, (*inputs, *params))
        # What is changed within the clock's own grain would look as it did.
        time.sleep(GRAIN)
        yield Room(root, request, inputs, params, before)


def environment_of(request: Request, environment: Mapping[str, str]) -> dict[str, str]:
    """What the command of an action sees. Raises `NotFound` when a variable that counts has another value here."""
    here = environment_digests(request.env, environment)
    for name, digest in request.env.items():
        if digest != here[name]:
            raise NotFound(
                f"the environment variable {display(name)} has another value here than the action was made for",
                f"unset {display(name)}" if not digest else f"export {display(name)}=VALUE, as where the request was made",
            )
    return dict(environment)


def run_in(
    room: Room,
    environment: Mapping[str, str],
    *,
    key: str,
    hear: Hear | None,
    timeout: float = 0.0,
    witness: Witness | None = None,
) -> Outcome:
    """Run the action's commands; how they ended. `hear` gets what they print, a `witness` watches what they ask for."""
    request = room.request
    lines = lines_of(request.cmd)
    if witness is not None:
        lines, environment = tuple(map(witness.command, lines)), witness.environment(environment)
    return run_commands(
        lines,
        directory=f"{room.path}/{request.wdir}" if request.wdir else room.path,
        environment={**environment, MARK: key},
        hear=hear,
        timeout=timeout,
    )


def check_inputs(room: Room) -> None:
    """Raise `StageFailed` naming an input that is not what it was when the command began."""
    after = _facts(room.path, (*room.inputs, *room.params))
    for path in room.before.keys() | after.keys():
        if room.before.get(path) == after.get(path):
            continue
        owner = next(known for known in (*room.inputs, *room.params) if contains(known, path))
        if owner in room.params:
            with suppress(OSError), open(f"{room.path}/{owner}", "rb") as file:
                if file.read(len(room.params[owner]) + 1) == room.params[owner]:
                    continue
        elif any(_content(room, owner, rules) == room.inputs[owner] for rules in (NO_RULES, _RULES)):
            continue
        raise StageFailed(
            f"the command changed its input {display(path)}", "a command may not write what it reads: declare it as an output"
        )


def _facts(root: str, paths: Iterable[str]) -> dict[str, Facts]:
    """By path, what the file system says of each file of the inputs."""
    found: dict[str, Facts] = {}
    todo = list(paths)
    while todo:
        path = todo.pop()
        try:
            facts = os.lstat(f"{root}/{path}")
        except OSError:
            continue
        if stat.S_ISDIR(facts.st_mode):
            todo += [f"{path}/{name}" for name in os.listdir(f"{root}/{path}") if name not in PASSED_OVER]
        else:
            found[path] = (facts.st_ino, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_mode)
    return found


def _content(room: Room, path: str, rules: Rules) -> Content | None:
    algorithm = room.inputs[path].id.partition(":")[0]
    return look(room.path, path, index=Memory(), sink=Looking(algorithm), rules=rules)


def check_code(room: Room) -> None:
    """Raise `IntegrityError` for a file of which only what it says is part of the action, and that says something else."""
    for path, digest in room.request.code.items():
        with open(f"{room.path}/{path}", "rb") as file:
            if code_digest(file.read(MAX_CODE)) != digest:
                raise IntegrityError(
                    f"{display(path)}: what its code says is not what the action names, or this Python cannot read it",
                    "make the request again, or run it with the Python it was made with",
                )


def take(project: Project, cache: Store, room: Room) -> dict[str, Content]:
    """Store what the command wrote, durably. Raises `StageFailed` naming an output it did not write."""
    outs: dict[str, Content] = {}
    with project.writer(cache) as writer:
        intake = Intake(writer, cache.algorithm)
        for path in room.request.outs:
            content = look(room.path, path, index=Memory(), sink=intake)
            if content is None:
                raise StageFailed(f"the command did not write its output {display(path)}", "let it write it")
            outs[path] = content
        writer.commit()
    return outs


def _spell_out(root: str, path: str, content: Content, cache: Store, jobs: dict[Wanted, list[place.Target]]) -> None:
    """Make the directories of an input, and note which object goes where."""
    read = stored_trees(cache)
    base, _, name = path.rpartition("/")
    os.makedirs(f"{root}/{base}" if base else root, exist_ok=True)
    if content.kind != TREE:
        kind = EXEC if content.executable else FILE
        jobs.setdefault(wanted(content), []).append(place.Target(f"{root}/{base}" if base else root, name, kind))
        return
    todo: list[tuple[str, Content]] = [(path, content)]
    while todo:
        at, here = todo.pop()
        check_path(at, cache.label)
        os.makedirs(f"{root}/{at}", exist_ok=True)
        entries: list[Entry] = read(at, here)
        for entry in entries:
            if entry.kind == DIR:
                todo.append((f"{at}/{entry.name}", entry_content(entry)))
            else:
                target = place.Target(f"{root}/{at}", entry.name, entry.kind)
                jobs.setdefault(Wanted(entry.id, entry.seal, entry.size), []).append(target)


def _lost(lost: set[Wanted], cache: Store) -> NotFound:
    return NotFound(f"object {min(lost).id} of the action's inputs is not in {cache.label}", "send the request again")


# Params files, from the values that are recorded


def params_text(file: str, values: Mapping[str, Any]) -> str:
    """A params file that holds just these values, in its own format. Comments and other keys of the original are not in it.

    Raises `UsageError` for Python files: what is a class there and what a mapping is not recorded.
    """
    extension = file.rpartition("/")[2].rpartition(".")[2].lower()
    if extension == "py":
        raise UsageError(
            f"{display(file)}: parameters in Python cannot be written from their values",
            f"add {display(file)} to the stage's deps too",
        )
    tree = nested(values)
    if extension == "toml":
        return "".join(f"{_toml_key(key)} = {_toml(value)}\n" for key, value in tree.items() if value is not None)
    if extension == "json":
        return json.dumps(tree, indent=2, ensure_ascii=False) + "\n"
    return _yaml_block(tree, "")


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted key as nested mappings and lists: {"train.lr": 1} as {"train": {"lr": 1}}."""
    found: dict[str, Any] = {}
    for key in sorted(values, key=lambda key: key.count(".")):
        here = found
        *way, last = key.split(".")
        for step in way:
            inner = here.get(step)
            if not isinstance(inner, dict):
                inner = here[step] = _Way()
            here = inner
        here.setdefault(last, values[key])
    return {key: _listed(value) for key, value in found.items()}


class _Way(dict[str, Any]):
    """What dotted keys lead through; a mapping that is itself a value stays as it is recorded."""


def _listed(value: Any) -> Any:
    """Ways whose steps are all numbers come from lists."""
    if not isinstance(value, _Way):
        return value
    inner = {key: _listed(below) for key, below in value.items()}
    if all(isinstance(key, str) and key.isascii() and key.isdigit() and len(key) < 5 for key in inner):
        return [inner.get(str(at)) for at in range(max(map(int, inner)) + 1)]
    return inner


def _yaml_block(tree: Mapping[str, Any], indent: str) -> str:
    lines = []
    for key, value in tree.items():
        name = _yaml_key(str(key))
        if isinstance(value, dict) and value:
            lines.append(f"{indent}{name}:\n{_yaml_block(value, indent + '  ')}")
        else:
            lines.append(f"{indent}{name}: {_yaml(value)}\n")
    return "".join(lines)


def _yaml_key(key: str) -> str:
    plain = key.isascii() and key.replace("_", "").isalnum() and not key[0].isdigit() and key.lower() not in _YAML_WORDS
    return key if plain else json.dumps(key, ensure_ascii=False)


def _yaml(value: Any) -> str:
    """A value in YAML's flow style, read alike by version 1.1 and 1.2."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_yaml(str(key))}: {_yaml(below)}" for key, below in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_yaml, value)) + "]"
    if isinstance(value, float):
        text = repr(value)
        if text in ("inf", "-inf", "nan"):
            return text.replace("inf", ".inf").replace("nan", ".nan")
        mantissa, mark, exponent = text.partition("e")
        sign = "" if exponent[:1] in ("-", "+", "") else "+"
        return f"{mantissa}{'' if '.' in mantissa else '.0'}{mark}{sign}{exponent}"
    return json.dumps(value, ensure_ascii=False)


def _toml_key(key: object) -> str:
    text = str(key)
    return text if text and text.isascii() and text.replace("-", "").replace("_", "").isalnum() else json.dumps(text)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_toml_key(key)} = {_toml(below)}" for key, below in value.items() if below is not None) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return repr(value) if isinstance(value, float) else json.dumps(value)
