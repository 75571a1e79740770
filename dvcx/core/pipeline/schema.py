"""Stages: what dvcx.yaml may say, checked key by key, as values. The only place that knows its keys."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dvcx.core.documents import Document
from dvcx.core.paths import contains, parent, resolve
from dvcx.core.spelling import did_you_mean
from dvcx.errors import Conflict, UsageError, display

FILE_NAME = "dvcx.yaml"
LOCK_NAME = "dvcx.lock"
PARAMS_FILE = "params.yaml"

_TOP_KEYS = ("stages",)
_STAGE_KEYS = ("cmd", "deps", "params", "outs", "metrics", "wdir", "desc", "frozen", "always_changed")
_OUT_KEYS = ("cache", "persist", "push", "desc")
# Where a value stands: the keys and indexes that lead to it.
Place = tuple[str | int, ...]
# Keys of DVC's language that this version does not speak: they deserve a better answer than "unknown key".
_LATER_TOP = frozenset({"vars", "params", "metrics", "plots", "artifacts", "datasets"})
_LATER_STAGE = frozenset({"foreach", "do", "matrix", "vars", "plots", "meta", "env", "environment", "resources"})
_LATER_OUT = frozenset({"remote", "type", "labels", "meta", "checkpoint", "hash"})

_NAME = re.compile(r"[^\W-][\w-]*").fullmatch
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://").match
# Bump it whenever the same dvcx.yaml would become other stages: it makes remembered stages unknown.
_FORM = 1


class Out(NamedTuple):
    """One output, by its path in the project. `cache` keeps its content, `persist` leaves it there before a run."""

    path: str
    cache: bool = True
    persist: bool = False
    push: bool = True
    metric: bool = False
    desc: str = ""


class ParamsOf(NamedTuple):
    """Parameters read from `file` (a path in the project): these keys, or the whole file when there are none."""

    file: str
    keys: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the dvcx.yaml `file`. Every path is relative to the project; `line` is 0 when unknown."""

    name: str
    file: str
    cmd: str | tuple[str, ...]
    wdir: str = ""
    deps: tuple[str, ...] = ()
    outs: tuple[Out, ...] = ()
    params: tuple[ParamsOf, ...] = ()
    desc: str = ""
    frozen: bool = False
    always_changed: bool = False
    line: int = 0

    @property
    def address(self) -> str:
        """What names the stage in the project: `train`, or `sub/dvcx.yaml:train` for one that is not at the root."""
        return address(self.file, self.name)


def address(file: str, name: str) -> str:
    """The address of the stage `name` of `file`."""
    return name if file == FILE_NAME else f"{file}:{name}"


def parse_stages(document: Document, file: str) -> tuple[Stage, ...]:
    """The stages of the dvcx.yaml at `file` (its path in the project), in the order they are written.

    Raises `UsageError` for what the language does not have, `Conflict` for a stage that contradicts itself and
    `UnsafeInput` for a path outside the project; all name file, line, column and field.
    """
    top = document.value
    if top is None:
        return ()
    if not isinstance(top, dict):
        raise UsageError(f"{document.file}: it must hold 'stages:', not {_kind(top)}", "start it with a line: stages:")
    _check_keys(document, (), top, _TOP_KEYS, _LATER_TOP)
    stages = top.get("stages")
    if stages is None:
        return ()
    _expect(document, ("stages",), stages, dict)
    return tuple(_stage(document, name, stages[name], file) for name in stages)


def check_stage_name(name: str, where: str) -> str:
    """`name` if a stage may have it, else `UsageError`."""
    if not _NAME(name) or len(name) > 200:
        raise UsageError(
            f"{where}: '{display(name[:80])}' cannot name a stage", "use letters, digits, '_' and '-', starting without '-'"
        )
    return name


def stage_record(
    cmd: str | Sequence[str],
    *,
    deps: Iterable[str] = (),
    outs: Iterable[str] = (),
    outs_no_cache: Iterable[str] = (),
    outs_persist: Iterable[str] = (),
    params: Iterable[str] = (),
    metrics: Iterable[str] = (),
    metrics_no_cache: Iterable[str] = (),
    wdir: str = "",
    desc: str = "",
    always_changed: bool = False,
) -> dict[str, Any]:
    """The mapping that stands in dvcx.yaml for a stage given by options; not yet checked. Paths are relative to `wdir`.

    Each of `params` is `key,key` (of params.yaml), `file:key,key` or `file:` for the whole file.
    """
    record: dict[str, Any] = {"cmd": cmd if isinstance(cmd, str) else list(cmd)}
    if wdir and wdir != ".":
        record["wdir"] = wdir
    if desc:
        record["desc"] = desc
    fields: dict[str, list[Any]] = {
        "deps": list(deps),
        "params": _params_record(params),
        "outs": [*outs, *_flagged(outs_no_cache, "cache", False), *_flagged(outs_persist, "persist", True)],
        "metrics": [*metrics, *_flagged(metrics_no_cache, "cache", False)],
    }
    record.update({key: values for key, values in fields.items() if values})
    if always_changed:
        record["always_changed"] = True
    return record


def dump_stages(stages: Sequence[Stage]) -> bytes:
    """Stages as bytes that `load_stages` reads much faster than YAML can be: a memory, never a record."""
    rows = [_stage_row(stage) for stage in stages]
    body = json.dumps(rows, separators=(",", ":")).encode()
    return b"dvcx-stages %d %08x\n" % (_FORM, zlib.crc32(body)) + body


def load_stages(data: bytes, file: str) -> tuple[Stage, ...] | None:
    """The stages `dump_stages` wrote for the dvcx.yaml at `file`; None for anything else, also of another version."""
    head, _, body = data.partition(b"\n")
    if head != b"dvcx-stages %d %08x" % (_FORM, zlib.crc32(body)):
        return None
    try:
        stages = tuple(_load_row(row) for row in json.loads(body))
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return stages if all(stage.file == file for stage in stages) else None


def _stage(document: Document, name: str, body: object, file: str) -> Stage:
    at = ("stages", name)
    check_stage_name(name, document.where(*at))
    _expect(document, at, body, dict)
    assert isinstance(body, dict)
    _check_keys(document, at, body, _STAGE_KEYS, _LATER_STAGE)
    _refuse_templates(document, at, body)
    base = parent(file)
    wdir = base
    if "wdir" in body:
        wdir = _path(document, (*at, "wdir"), body["wdir"], base)
    deps = tuple(_paths(document, (*at, "deps"), body.get("deps"), wdir))
    outs = (*_outs(document, (*at, "outs"), body, wdir), *_outs(document, (*at, "metrics"), body, wdir))
    stage = Stage(
        name,
        file,
        _cmd(document, at, body),
        wdir,
        deps,
        outs,
        _params(document, (*at, "params"), body.get("params"), wdir),
        _text(document, at, body, "desc"),
        _flag(document, at, body, "frozen", False),
        _flag(document, at, body, "always_changed", False),
        document.line(*at),
    )
    _check_outs(document, at, stage)
    return stage


def _cmd(document: Document, at: Place, body: Mapping[str, Any]) -> str | tuple[str, ...]:
    hint = "say what it runs, for example: cmd: python train.py"
    if "cmd" not in body:
        raise UsageError(f"{document.where(*at)}: {_field(at)} has no 'cmd'", hint)
    cmd, at = body["cmd"], (*at, "cmd")
    lines = cmd if isinstance(cmd, list) else [cmd]
    for number, line in enumerate(lines):
        place: Place = (*at, number) if isinstance(cmd, list) else at
        _expect(document, place, line, str)
        if "\0" in line:
            raise UsageError(f"{document.where(*place, value=True)}: {_field(place)} holds a NUL", "remove it")
    if not lines or not all(line.strip() for line in lines):
        raise UsageError(f"{document.where(*at)}: {_field(at)} is empty", hint)
    return cmd if isinstance(cmd, str) else tuple(lines)


def _paths(document: Document, at: Place, items: object, wdir: str) -> list[str]:
    """The paths of a list of texts, each once."""
    if items is None:
        return []
    _expect(document, at, items, list)
    assert isinstance(items, list)
    paths: list[str] = []
    seen: set[str] = set()
    for number, item in enumerate(items):
        place = (*at, number)
        path = _path(document, place, item, wdir)
        if path in seen:
            raise UsageError(
                f"{document.where(*place)}: {_field(place)}: '{display(path)}' is listed twice", "remove one of the two lines"
            )
        seen.add(path)
        paths.append(path)
    return paths


def _outs(document: Document, at: Place, body: Mapping[str, Any], wdir: str) -> list[Out]:
    items, metric = body.get(str(at[-1])), at[-1] == "metrics"
    if items is None:
        return []
    _expect(document, at, items, list)
    outs = []
    for number, item in enumerate(items):
        place = (*at, number)
        if isinstance(item, dict):
            if len(item) != 1:
                raise UsageError(
                    f"{document.where(*place)}: {_field(place)} must hold one path, not {len(item)}",
                    "write one '- path: {cache: false}' per output",
                )
            ((written, flags),) = item.items()
            inner = (*place, written)
            flags = {} if flags is None else flags
            _expect(document, inner, flags, dict)
            _check_keys(document, inner, flags, _OUT_KEYS, _LATER_OUT)
            path = _path(document, place, written, wdir, document.where(*inner))
            out = Out(
                path,
                _flag(document, inner, flags, "cache", True),
                _flag(document, inner, flags, "persist", False),
                _flag(document, inner, flags, "push", True),
                metric,
                _text(document, inner, flags, "desc"),
            )
        else:
            out = Out(_path(document, place, item, wdir), metric=metric)
        outs.append(out)
    return outs


def _params(document: Document, at: Place, items: object, wdir: str) -> tuple[ParamsOf, ...]:
    """Params by file, in the order met. A file listed whole and by keys is read whole."""
    if items is None:
        return ()
    _expect(document, at, items, list)
    assert isinstance(items, list)
    wanted: dict[str, list[str] | None] = {}
    for number, item in enumerate(items):
        place = (*at, number)
        if isinstance(item, dict):
            for written, keys in item.items():
                inner = (*place, written)
                file = _path(document, place, written, wdir, document.where(*inner))
                if keys is None or keys == []:
                    wanted[file] = None
                    continue
                _expect(document, inner, keys, list)
                for index, key in enumerate(keys):
                    _add_key(wanted, file, _param_key(document, (*inner, index), key))
        else:
            _add_key(wanted, resolve(wdir, PARAMS_FILE, document.where(*place)), _param_key(document, place, item))
    return tuple(ParamsOf(file, tuple(keys or ())) for file, keys in wanted.items())


def _add_key(wanted: dict[str, list[str] | None], file: str, key: str) -> None:
    keys = wanted.setdefault(file, [])
    if keys is not None and key not in keys:
        keys.append(key)


def _param_key(document: Document, at: Place, key: object) -> str:
    _expect(document, at, key, str)
    text = str(key)
    if not text or text.startswith(".") or text.endswith("."):
        where = f"{document.where(*at, value=True)}: {_field(at)}"
        raise UsageError(f"{where} is no parameter: '{display(text[:200])}'", "for example: train.lr")
    return text


def _path(document: Document, at: Place, written: object, base: str, where: str = "") -> str:
    where = f"{where or document.where(*at, value=True)}: {_field(at)}"
    if not isinstance(written, str):
        raise UsageError(f"{where} must be a path, not {_kind(written)}", "put it in quotes if it is a file's name")
    if _URL(written):
        raise UsageError(
            f"{where}: URLs are not supported yet by this version: '{display(written[:200])}'",
            "download it in a stage of its own, or track a local copy with dvcx add",
        )
    path = resolve(base, written, where)
    if not path and at[-1] != "wdir":
        raise UsageError(f"{where} is the project itself: '{display(written)}'", "name the files or directories it is about")
    return path


def _check_outs(document: Document, at: Place, stage: Stage) -> None:
    """A stage may not write what it reads, what describes it, or where it stands."""
    where = f"{document.where(*at)}: {_field(at)}"
    seen: set[str] = set()
    reads = (*stage.deps, *(params.file for params in stage.params))
    for out in stage.outs:
        path, shown = out.path, display(out.path)
        name = path.rpartition("/")[2]
        if path in seen:
            raise UsageError(f"{where}: output '{shown}' is listed twice", "remove one of the two lines")
        seen.add(path)
        for read in reads:
            if contains(path, read) or contains(read, path):
                raise Conflict(
                    f"{where}: it reads '{display(read)}' and writes '{shown}', which overlap: {stage.address} → {stage.address}",
                    "write the output to another path",
                )
        if name in (FILE_NAME, LOCK_NAME) or name.endswith(".dvcx") or contains(path, stage.file):
            raise UsageError(f"{where}: output '{shown}' would overwrite dvcx's own files", "write the output to another path")
        if contains(path, stage.wdir):
            raise UsageError(f"{where}: output '{shown}' is the directory the stage runs in", "name a path inside it")


def _refuse_templates(document: Document, at: Place, body: object) -> None:
    """`${` would be a template: refuse it, rather than pass it on as text that means something else later."""
    todo: list[tuple[Place, object]] = [(at, body)]
    while todo:
        place, value = todo.pop()
        if isinstance(value, dict):
            todo.extend(((*place, key), inner) for key, inner in value.items())
            value = " ".join(value)
        elif isinstance(value, list):
            todo.extend(((*place, number), inner) for number, inner in enumerate(value))
        if isinstance(value, str) and "${" in value:
            raise UsageError(
                f"{document.where(*place, value=True)}: {_field(place)}: '${{…}}' is not supported yet by this version",
                "write the value itself; for a shell variable write $NAME",
            )


def _check_keys(
    document: Document, at: Place, body: Mapping[str, Any], known: Sequence[str], later: frozenset[str]
) -> None:
    for key in body:
        if key in known:
            continue
        where = document.where(*at, key)
        field = f"{_field(at)}: " if at else ""
        if key in later or "${" in key:
            raise UsageError(
                f"{where}: {field}'{display(key)}' is not supported yet by this version", f"it understands: {', '.join(known)}"
            )
        hint = did_you_mean(key, known) or f"it understands: {', '.join(known)}"
        raise UsageError(f"{where}: {field}unknown key '{display(key[:80])}'", hint)


def _flag(document: Document, at: Place, body: Mapping[str, Any], key: str, default: bool) -> bool:
    value = body.get(key, default)
    if not isinstance(value, bool):
        raise UsageError(
            f"{document.where(*at, key, value=True)}: {_field((*at, key))} must be true or false, not {_kind(value)}",
            f"write {key}: {'true' if default else 'false'}, its default, or {key}: {'false' if default else 'true'}",
        )
    return value


def _text(document: Document, at: Place, body: Mapping[str, Any], key: str) -> str:
    value = body.get(key)
    if value is None:
        return ""
    _expect(document, (*at, key), value, str)
    return str(value)


_WORDS = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}


def _expect(document: Document, at: Place, value: object, wanted: type) -> None:
    if not isinstance(value, wanted):
        hint = "put it in quotes if it is meant as text" if wanted is str else "see: dvcx stage add --help"
        if wanted is list and isinstance(value, str):
            hint = f"write it as a list: {at[-1]}: [{value[:80]}]"
        raise UsageError(
            f"{document.where(*at, value=True)}: {_field(at)} must be {_WORDS[wanted]}, not {_kind(value)}", display(hint)
        )


def _kind(value: object) -> str:
    return "nothing" if value is None else _WORDS.get(type(value), "something else")


def _field(at: Place) -> str:
    text = ""
    for step in at:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return display(text[:200])


def _flagged(paths: Iterable[str], flag: str, value: bool) -> list[dict[str, Any]]:
    return [{path: {flag: value}} for path in paths]


def _params_record(options: Iterable[str]) -> list[Any]:
    own: list[str] = []
    files: dict[str, list[str] | None] = {}
    for option in options:
        file, colon, keys = option.rpartition(":")
        names = [key.strip() for key in keys.split(",") if key.strip()]
        if not colon:
            own += [name for name in names if name not in own]
        elif not names:
            files[file] = None
        else:
            files[file] = [*(files.get(file) or ()), *names]
    return [*own, *({file: names} for file, names in files.items())]


def _stage_row(stage: Stage) -> list[Any]:
    outs = [[out.path, out.cache, out.persist, out.push, out.metric, out.desc] for out in stage.outs]
    params = [[of.file, of.keys] for of in stage.params]
    switches = [stage.desc, stage.frozen, stage.always_changed, stage.line]
    return [stage.name, stage.file, stage.cmd, stage.wdir, stage.deps, outs, params, *switches]


def _load_row(row: list[Any]) -> Stage:
    name, file, cmd, wdir, deps, outs, params, desc, frozen, always_changed, line = row
    return Stage(
        _typed(name, str),
        _typed(file, str),
        _texts(cmd) if isinstance(cmd, list) else _typed(cmd, str),
        _typed(wdir, str),
        _texts(deps),
        tuple(_load_out(out) for out in _typed(outs, list)),
        tuple(ParamsOf(_typed(of, str), _texts(keys)) for of, keys in _typed(params, list)),
        _typed(desc, str),
        _typed(frozen, bool),
        _typed(always_changed, bool),
        _typed(line, int),
    )


def _load_out(row: list[Any]) -> Out:
    path, *flags, desc = row
    cache, persist, push, metric = (_typed(flag, bool) for flag in flags)
    return Out(_typed(path, str), cache, persist, push, metric, _typed(desc, str))


def _texts(values: Any) -> tuple[str, ...]:
    return tuple([_typed(value, str) for value in _typed(values, list)])


def _typed(value: Any, wanted: type) -> Any:
    if type(value) is not wanted:
        raise TypeError
    return value
