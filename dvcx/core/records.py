"""Records kept as JSON: pointer, lock, action. Bytes to values and back; the only place that knows their keys."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, TypeGuard

from dvcx.core.objects import BLOB, MAX_SIZE, TREE, Content, check_id, check_seal
from dvcx.core.paths import check_path
from dvcx.errors import IntegrityError, UnsafeInput, display

VERSION = 1
MAX_POINTER = 64 << 10
MAX_LOCK = 64 << 20
MAX_VALUES = 1_000_000
"""So many values in one record take about 150 MB once parsed."""
MAX_ACTION = 4 << 20
MAX_RETRIES = 100
"""A command is tried so many times more at most."""
POINTER_SUFFIX = ".dvcx"
STAGES_FILE = "dvcx.yaml"
LOCK_FILE = "dvcx.lock"

_CONTENT_KEYS = frozenset({"path", "kind", "hash", "blake3", "size", "files", "exec"})
_POINTER_KEYS = _CONTENT_KEYS | {"dvcx", "desc", "labels", "meta", "remote", "push", "source"}
_LOCK_STAGE_KEYS = frozenset({"cmd", "deps", "absent", "used", "external", "env", "params", "outs"})
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_REQUEST_KEYS = frozenset({"dvcx", "cmd", "wdir", "deps", "params", "outs"})


class Pointer(NamedTuple):
    """A tracked path: `path` is relative to the pointer's own directory. `notes` holds desc, labels, meta, source."""

    path: str
    content: Content
    remote: str = ""
    push: bool = True
    notes: Mapping[str, Any] = MappingProxyType({})


class Used(NamedTuple):
    """A file that a wildcard or an import closure took in; `code` is the digest of what its code says, "" for any bytes."""

    content: Content
    code: str = ""


class LockEntry(NamedTuple):
    """What the last good run of a stage ran, read and wrote. Paths relative to the lock's directory; params by file.

    `absent` are optional dependencies that were not there. `used` are the files each `glob:` and `py:` dependency stood for.
    `env` holds digests of environment variables, "" for one that was not set. `external` is what inputs outside the project
    were, by address ("" for one that was absent), in words that are only compared.
    """

    cmd: str | tuple[str, ...]
    deps: Mapping[str, Content]
    params: Mapping[str, Mapping[str, Any]]
    outs: Mapping[str, Content]
    absent: tuple[str, ...] = ()
    used: Mapping[str, Mapping[str, Used]] = _NOTHING
    env: Mapping[str, str] = _NOTHING
    external: Mapping[str, str] = _NOTHING


class Action(NamedTuple):
    """A known result: the outputs of an action key, by path relative to the project."""

    key: str
    outs: Mapping[str, Content]


class Request(NamedTuple):
    """An action as it can be run anywhere: its key is the BLAKE3 of its bytes. Project paths; params by file; sorted outs.

    `env` holds, by name, the BLAKE3 of the value of each variable that counts ("" for one that is not set). `code` holds
    digests of Python files of which only what they say counts: other bytes may give the same key, so none are named.
    `external` is what inputs outside the project are, by address, in words that are only compared.
    """

    cmd: str | tuple[str, ...]
    wdir: str
    deps: Mapping[str, Content]
    params: Mapping[str, Mapping[str, Any]]
    outs: tuple[str, ...]
    env: Mapping[str, str] = MappingProxyType({})
    code: Mapping[str, str] = MappingProxyType({})
    external: Mapping[str, str] = MappingProxyType({})


class Terms(NamedTuple):
    """What a request says beside the action, and its key does not count: `timeout` in seconds (0: none) and `retries` of the
    command, and the files of the request's `code`, any of the many that say the same."""

    timeout: float = 0.0
    retries: int = 0
    code: Mapping[str, Content] = MappingProxyType({})


class Asked(NamedTuple):
    """A request as it is kept: the action, and the terms to run it on."""

    request: Request
    terms: Terms = Terms()


def lines_of(cmd: str | tuple[str, ...]) -> tuple[str, ...]:
    """The lines of a command, which run one after another."""
    return (cmd,) if isinstance(cmd, str) else cmd


def is_record(path: str) -> bool:
    """Whether the file at `path` is a pointer, a dvcx.yaml or a dvcx.lock by its name; nothing in .dvcx or .git is."""
    name = path.rpartition("/")[2]
    if not (name in (STAGES_FILE, LOCK_FILE) or (name.endswith(POINTER_SUFFIX) and name != POINTER_SUFFIX)):
        return False
    return not any(part in (".dvcx", ".git") for part in path.split("/"))


def encode_pointer(pointer: Pointer) -> bytes:
    """Canonical bytes of a pointer file."""
    record: dict[str, Any] = {"dvcx": VERSION, **_content_record(pointer.path, pointer.content)}
    record.update({key: pointer.notes[key] for key in ("desc", "labels", "meta") if key in pointer.notes})
    if pointer.remote:
        record["remote"] = pointer.remote
    if not pointer.push:
        record["push"] = False
    if "source" in pointer.notes:
        record["source"] = pointer.notes["source"]
    return _dump(record, pointer.path, indent=2)


def decode_pointer(data: bytes, where: str) -> Pointer:
    """A pointer from the bytes of its file `where`.

    Raises `IntegrityError` when it is truncated, malformed or of another version, `UnsafeInput` for hostile values.
    """
    record = _load(data, where, MAX_POINTER)
    unknown = set(record) - _POINTER_KEYS
    if unknown:
        raise _malformed(where, f"unknown key {min(unknown)[:80]!r}")
    path = check_path(record.get("path"), f"{where}: path")
    content = _content(record, where)
    remote = record.get("remote", "")
    push = record.get("push", True)
    if not isinstance(remote, str) or not isinstance(push, bool):
        raise _malformed(where, "remote must be text and push true or false")
    if not isinstance(record.get("desc", ""), str) or not _is_texts(record.get("labels", [])):
        raise _malformed(where, "desc must be text and labels a list of text")
    if not isinstance(record.get("meta", {}), dict) or not isinstance(record.get("source", {}), dict):
        raise _malformed(where, "meta and source must be objects")
    notes: dict[str, Any] = {key: record[key] for key in ("desc", "labels", "meta", "source") if key in record}
    return Pointer(path, content, remote, push, notes)


def encode_lock(entries: Mapping[str, LockEntry]) -> bytes:
    """Canonical bytes of a lock: stages sorted by name, dependencies and outputs by path."""
    if not any("@" in name for name in entries):
        stages = {name: _lock_stage(entries[name]) for name in sorted(entries)}
        return _dump({"dvcx": VERSION, "stages": stages}, LOCK_FILE, indent=2)
    blocks = []
    for name in sorted(entries):
        record = _lock_row(entries[name]) if "@" in name else _lock_stage(entries[name])
        text = json.dumps(record, indent=None if "@" in name else 2, ensure_ascii=False)
        blocks.append(f"    {json.dumps(name, ensure_ascii=False)}: " + text.replace("\n", "\n    "))
    whole = f'{{\n  "dvcx": {VERSION},\n  "stages": {{\n' + ",\n".join(blocks) + "\n  }\n}\n"
    try:
        return whole.encode()
    except UnicodeEncodeError:
        raise UnsafeInput(f"{LOCK_FILE}: a name or command in it is not valid UTF-8", "write it in UTF-8") from None


def _lock_row(entry: LockEntry) -> dict[str, Any]:
    """An entry in one line: of the thousands that `foreach` and `matrix` make, each takes as little as it can."""
    record = _lock_stage(entry)
    for key, contents in (("deps", entry.deps), ("outs", entry.outs)):
        if contents:
            record[key] = {path: content_line(contents[path]) for path in sorted(contents)}
    return record


def content_line(content: Content) -> str:
    """What is at a path, in one line: its kind, id, seal, size, and of a directory the number of files."""
    kind = TREE if content.kind == TREE else "exec" if content.executable else "file"
    files = f" {content.files}" if content.kind == TREE else ""
    return f"{kind} {content.id} {content.seal} {content.size}{files}"


def _content_of(line: object, where: str) -> Content:
    parts = line.split(" ") if isinstance(line, str) else []
    numbers = parts[3:]
    if len(parts) != 4 + (parts[:1] == [TREE]) or parts[0] not in ("file", "exec", TREE):
        raise _malformed(where, "it must be 'file', 'exec' or 'tree', id, seal, size, and of a tree the number of files")
    if not all(number.isascii() and number.isdigit() and len(number) <= 20 and _is_count(int(number)) for number in numbers):
        raise _malformed(where, "an impossible size")
    kind = TREE if parts[0] == TREE else BLOB
    files = int(parts[4]) if kind == TREE else 1
    return Content(kind, check_id(parts[1], where), check_seal(parts[2], where), int(parts[3]), files, parts[0] == "exec")


def decode_lock(data: bytes, where: str) -> dict[str, LockEntry]:
    """The lock entries in the bytes of the lock file `where`, by stage name."""
    record = _load(data, where, MAX_LOCK)
    stages = record.get("stages")
    if set(record) != {"dvcx", "stages"} or not isinstance(stages, dict):
        raise _malformed(where, "it must hold 'dvcx' and 'stages'")
    return {name: _lock_entry(value, f"{where}: stages.{display(name[:80])}") for name, value in stages.items()}


def encode_journal(base: str) -> bytes:
    """The first line of a journal: finished stages that are not in the lock yet, whose bytes have the BLAKE3 `base`."""
    return canonical({"dvcx": VERSION, "base": base}) + b"\n"


def encode_journal_line(stage: str, entry: LockEntry) -> bytes:
    """One more line of a journal."""
    record = {"stage": stage, "entry": _lock_stage(entry)}
    try:
        return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        raise UnsafeInput(f"stage '{display(stage)}': a name or command in it is not valid UTF-8", "write it in UTF-8") from None


def decode_journal(data: bytes, base: str, where: str) -> dict[str, LockEntry]:
    """The entries of a journal on a lock whose bytes have the BLAKE3 `base`; none of one on other bytes.

    Its end may be half a line: whoever wrote it was killed. What comes behind a damaged line is not believed.
    """
    lines = data.split(b"\n")[:-1]
    found: dict[str, LockEntry] = {}
    try:
        head = json.loads(lines[0]) if lines else {}
        if head != {"dvcx": VERSION, "base": base}:
            return {}
        for line in lines[1:]:
            record = json.loads(line.decode("utf-8"), object_pairs_hook=_no_doubles, parse_constant=_constant)
            found[str(record["stage"])] = _lock_entry(record["entry"], where)
    except (ValueError, TypeError, KeyError, RecursionError, _Doubled, IntegrityError, UnsafeInput):
        return found
    return found


def encode_action(action: Action) -> bytes:
    """Canonical bytes of an action record."""
    outs = [_content_record(path, action.outs[path]) for path in sorted(action.outs)]
    return _dump({"dvcx": VERSION, "key": action.key, "outs": outs}, f"action {action.key}")


def decode_action(data: bytes, where: str) -> Action:
    """An action record from its bytes."""
    record = _load(data, where, MAX_ACTION)
    if set(record) != {"dvcx", "key", "outs"}:
        raise _malformed(where, "it must hold 'dvcx', 'key' and 'outs'")
    outs = _contents(record["outs"], f"{where}: outs")
    for path in outs:
        check_path(path, f"{where}: outs")
    return Action(check_seal(record["key"], where), outs)


def encode_request(request: Request) -> bytes:
    """The canonical bytes of a request, whose BLAKE3 is the action's key (docs/format.md, "Action")."""
    record: dict[str, Any] = {
        "dvcx": VERSION,
        "cmd": request.cmd,
        "wdir": request.wdir,
        "deps": [[path, *_row(request.deps[path])] for path in sorted(request.deps)],
        "params": request.params,
        "outs": sorted(request.outs),
    }
    if request.env:
        record["env"] = request.env
    if request.code:
        record["code"] = request.code
    if request.external:
        record["external"] = request.external
    return canonical(record)


def encode_asked(asked: Asked) -> bytes:
    """The bytes of a request's file: the action, whose BLAKE3 is the key, then in a line of its own the terms, if any."""
    data, terms = encode_request(asked.request), asked.terms
    if terms == Terms():
        return data
    record: dict[str, Any] = {"dvcx": VERSION}
    if terms.timeout:
        record["timeout"] = terms.timeout
    if terms.retries:
        record["retries"] = terms.retries
    if terms.code:
        record["code"] = [[path, *_row(terms.code[path])] for path in sorted(terms.code)]
    return data + b"\n" + canonical(record)


def action_part(data: bytes) -> bytes:
    """The part of a request's file that its key is the BLAKE3 of."""
    return data.partition(b"\n")[0]


def decode_asked(data: bytes, where: str) -> Asked:
    """A request's file from its bytes; the caller compares the BLAKE3 of its `action_part` with the key.

    Raises `IntegrityError` for what is malformed or of another version, `UnsafeInput` for hostile values.
    """
    head, line, rest = data.partition(b"\n")
    request = decode_request(head, where)
    return Asked(request, _terms(rest, request, f"{where}: terms") if line else Terms())


def _terms(data: bytes, request: Request, where: str) -> Terms:
    record = _load(data, where, MAX_ACTION)
    if not {"dvcx"} <= set(record) <= {"dvcx", "timeout", "retries", "code"}:
        raise _malformed(where, "it holds other keys than timeout, retries and code")
    timeout, retries, rows = record.get("timeout", 0.0), record.get("retries", 0), record.get("code", [])
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 <= timeout < 1e18:
        raise _malformed(where, "timeout must be seconds")
    if not _is_count(retries) or retries > MAX_RETRIES or not isinstance(rows, list):
        raise _malformed(where, f"retries must be a number up to {MAX_RETRIES}, and code a list")
    code = dict(_dep(row, f"{where}: code[{number}]") for number, row in enumerate(rows))
    if len(code) != len(rows) or not set(code) <= set(request.code):
        raise _malformed(where, "code must hold each file once, and none the action does not name")
    return Terms(float(timeout), retries, code)


def decode_request(data: bytes, where: str) -> Request:
    """A request from its bytes; the caller compares their BLAKE3 with the key.

    Raises `IntegrityError` for what is malformed or of another version, `UnsafeInput` for hostile values.
    """
    record = _load(data, where, MAX_ACTION)
    if not _REQUEST_KEYS <= set(record) <= _REQUEST_KEYS | {"env", "code", "external"}:
        raise _malformed(where, "it holds other keys than a request of an action")
    cmd, params, env, outs = record["cmd"], record["params"], record.get("env", {}), record["outs"]
    if not isinstance(cmd, str) and not _is_texts(cmd):
        raise _malformed(where, "cmd must be text or a list of text")
    if not isinstance(params, dict) or not all(isinstance(value, dict) for value in params.values()):
        raise _malformed(where, "params must map files to values")
    if not isinstance(env, dict) or not all(isinstance(value, str) for value in env.values()):
        raise _malformed(where, "env must map names to digests")
    code = _digests(record.get("code", {}), f"{where}: code")
    external = _external(record.get("external", {}), f"{where}: external")
    if not _is_texts(outs) or len(set(outs)) != len(outs) or not isinstance(record["deps"], list):
        raise _malformed(where, "outs must be different paths, and deps a list")
    if record["wdir"] != "":
        check_path(record["wdir"], f"{where}: wdir")
    for path in (*outs, *params):
        check_path(path, where)
    deps = [_dep(row, f"{where}: deps[{number}]") for number, row in enumerate(record["deps"])]
    if len(dict(deps)) != len(deps):
        raise _malformed(where, "a path of deps twice")
    cmd = cmd if isinstance(cmd, str) else tuple(cmd)
    return Request(cmd, record["wdir"], dict(deps), params, tuple(outs), env, code, external)


def canonical(value: Any) -> bytes:
    """`value` as canonical JSON: sorted keys, no spaces. What keys are the digest of."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=True).encode(
        "utf-8", "surrogatepass"
    )


def _dump(record: Mapping[str, Any], what: str, *, indent: int | None = None) -> bytes:
    try:
        return json.dumps(record, indent=indent, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        raise UnsafeInput(f"{display(what)}: a name or command in it is not valid UTF-8", "write it in UTF-8") from None


def _row(content: Content) -> tuple[object, ...]:
    return content.kind, content.id, content.seal, content.size, content.files, content.executable


def _dep(row: object, where: str) -> tuple[str, Content]:
    if not isinstance(row, list) or len(row) != 7:
        raise _malformed(where, "it must be path, kind, id, seal, size, files and exec")
    path, kind, object_id, sealed, size, files, executable = row
    record = {"kind": kind, "hash": object_id, "blake3": sealed, "size": size, "exec": executable}
    if kind == TREE:
        record["files"] = files
    return check_path(path, where), _content(record, where)


def _content_record(path: str, content: Content) -> dict[str, Any]:
    record: dict[str, Any] = {
        "path": path,
        "kind": content.kind,
        "hash": content.id,
        "blake3": content.seal,
        "size": content.size,
    }
    if content.kind == TREE:
        record["files"] = content.files
    if content.executable:
        record["exec"] = True
    return record


def _content(record: Mapping[str, Any], where: str) -> Content:
    kind, size, files = record.get("kind"), record.get("size"), record.get("files", 1)
    if kind not in (BLOB, TREE):
        raise _malformed(where, f"kind must be 'blob' or 'tree', not {str(kind)[:40]!r}")
    if not _is_count(size) or not _is_count(files):
        raise _malformed(where, "size and files must be numbers from 0")
    if (kind == TREE) != ("files" in record):
        raise _malformed(where, "'files' belongs to a tree, and only there")
    executable = record.get("exec", False)
    if not isinstance(executable, bool) or (executable and kind == TREE):
        raise _malformed(where, "'exec' may only be true, and only for a blob")
    object_id = check_id(record.get("hash"), f"{where}: hash")
    return Content(kind, object_id, check_seal(record.get("blake3"), f"{where}: blake3"), int(size or 0), files, executable)


def _lock_stage(entry: LockEntry) -> dict[str, Any]:
    record: dict[str, Any] = {"cmd": entry.cmd if isinstance(entry.cmd, str) else list(entry.cmd)}
    if entry.deps:
        record["deps"] = [_content_record(path, entry.deps[path]) for path in sorted(entry.deps)]
    if entry.absent:
        record["absent"] = sorted(entry.absent)
    if entry.used:
        record["used"] = {
            spec: {path: _used_line(files[path]) for path in sorted(files)} for spec, files in sorted(entry.used.items())
        }
    if entry.external:
        record["external"] = {address: entry.external[address] or None for address in sorted(entry.external)}
    if entry.env:
        record["env"] = {name: entry.env[name] or None for name in sorted(entry.env)}
    if entry.params:
        record["params"] = {file: dict(sorted(entry.params[file].items())) for file in sorted(entry.params)}
    if entry.outs:
        record["outs"] = [_content_record(path, entry.outs[path]) for path in sorted(entry.outs)]
    return record


def _lock_entry(record: object, where: str) -> LockEntry:
    if not isinstance(record, dict) or not set(record) <= _LOCK_STAGE_KEYS:
        raise _malformed(where, f"a stage holds only {', '.join(sorted(_LOCK_STAGE_KEYS))}")
    cmd = record.get("cmd")
    if _is_texts(cmd):
        cmd = tuple(cmd)
    elif not isinstance(cmd, str):
        raise _malformed(where, "cmd must be text or a list of text")
    params = record.get("params", {})
    if not isinstance(params, dict) or not all(isinstance(value, dict) for value in params.values()):
        raise _malformed(where, "params must map files to values")
    for file in params:
        _check_stage_path(file, f"{where}.params")
    deps, outs = _contents(record.get("deps", []), f"{where}.deps"), _contents(record.get("outs", []), f"{where}.outs")
    entry = LockEntry(cmd, deps, params, outs)
    if len(record) > 4 or not record.keys() <= {"cmd", "deps", "params", "outs"}:
        entry = entry._replace(
            absent=_absent(record.get("absent", []), f"{where}.absent"),
            used=_used(record.get("used", {}), f"{where}.used"),
            env=_env(record.get("env", {}), f"{where}.env"),
            external=_external(record.get("external", {}), f"{where}.external"),
        )
    return entry


def _absent(record: object, where: str) -> tuple[str, ...]:
    if not _is_texts(record):
        raise _malformed(where, "it must be a list of paths")
    for path in record:
        _check_stage_path(path, where)
    return tuple(record)


def _env(record: object, where: str) -> dict[str, str]:
    if not isinstance(record, dict):
        raise _malformed(where, "it must map names to digests")
    return {name: "" if value is None else check_seal(value, f"{where}.{display(name[:80])}") for name, value in record.items()}


def _external(record: object, where: str) -> dict[str, str]:
    if not isinstance(record, dict):
        raise _malformed(where, "it must map addresses to what was there")
    for address, value in record.items():
        if not isinstance(value, str | None) or not (address + (value or "")).isprintable():
            raise _malformed(f"{where}.{display(address[:80])}", "it must be printable text, or null")
    return {address: value or "" for address, value in record.items()}


def _digests(record: object, where: str) -> dict[str, str]:
    if not isinstance(record, dict):
        raise _malformed(where, "it must map paths to digests")
    for item, key in record.items():
        _check_stage_path(item, where)
        check_seal(key, where)
    return record


def _used_line(used: Used) -> str:
    return content_line(used.content) + (f" {used.code}" if used.code else "")


def _used(record: object, where: str) -> dict[str, dict[str, Used]]:
    if not isinstance(record, dict) or not all(isinstance(files, dict) for files in record.values()):
        raise _malformed(where, "it must map dependencies to files")
    found: dict[str, dict[str, Used]] = {}
    for spec, files in record.items():
        kind, _, value = spec.partition(":")
        if kind not in ("glob", "py"):
            raise _malformed(where, f"unknown kind of dependency {spec[:80]!r}")
        _check_stage_path(value, where)
        found[spec] = {path: _used_file(path, line, f"{where}.{display(spec[:80])}") for path, line in files.items()}
    return found


def _used_file(path: str, line: object, where: str) -> Used:
    _check_stage_path(path, where)
    head, _, code = line.rpartition(" ") if isinstance(line, str) and line.count(" ") == 4 else (line, "", "")
    content = _content_of(head, f"{where}: {display(path[:80])}")
    if content.kind == TREE:
        raise _malformed(where, f"{path[:80]!r} is a directory, where only files belong")
    return Used(content, check_seal(code, where) if code else "")


def _contents(records: object, where: str) -> dict[str, Content]:
    if isinstance(records, dict) and records:
        for path in records:
            _check_stage_path(path, where)
        return {path: _content_of(line, f"{where}.{display(path[:80])}") for path, line in records.items()}
    if not isinstance(records, list):
        raise _malformed(where, "it must be a list")
    contents: dict[str, Content] = {}
    for number, record in enumerate(records):
        at = f"{where}[{number}]"
        if not isinstance(record, dict) or not set(record) <= _CONTENT_KEYS:
            raise _malformed(at, f"it holds only {', '.join(sorted(_CONTENT_KEYS))}")
        path = record.get("path")
        _check_stage_path(path, f"{at}.path")
        if path in contents:
            raise _malformed(at, f"path {path!r} twice")
        contents[str(path)] = _content(record, at)
    return contents


def _check_stage_path(path: object, where: str) -> None:
    """A lock's path may climb with leading `..` (its dvcx.yaml may lie below what it reads); the rest obeys the rule."""
    text = path
    while isinstance(text, str) and text.startswith("../"):
        text = text[3:]
    check_path(text, where)


def _load(data: bytes, where: str, limit: int) -> dict[str, Any]:
    if len(data) > limit:
        raise UnsafeInput(f"{where}: larger than {limit} bytes", "restore it: git checkout -- FILE")
    if not data.strip(b" \t\r\n\0"):
        raise IntegrityError(f"{where}: empty or truncated", f"restore it: git checkout -- {where}")
    if len(data) > MAX_VALUES and data.count(b",") + data.count(b"[") + data.count(b"{") > MAX_VALUES:
        raise UnsafeInput(f"{where}: more than {MAX_VALUES:,} values", f"restore it: git checkout -- {where}")
    try:
        record = json.loads(data.decode("utf-8"), object_pairs_hook=_no_doubles, parse_constant=_constant)
    except UnicodeDecodeError as error:
        raise _malformed(where, f"not valid UTF-8 at byte {error.start}") from None
    except json.JSONDecodeError as error:
        if b"\n<<<<<<< " in b"\n" + data:
            raise IntegrityError(
                f"{where}: it holds both sides of a merge",
                f"choose one: git checkout --ours -- {where} (or --theirs); then dvcx checkout",
            ) from None
        raise _malformed(f"{where}:{error.lineno}:{error.colno}", f"truncated or not JSON ({error.msg})", where) from None
    except RecursionError:
        raise UnsafeInput(f"{where}: nested too deep", f"restore it: git checkout -- {where}") from None
    except _Doubled:
        name, line, column = doubled_key(data.decode("utf-8"))
        raise _malformed(f"{where}:{line}:{column}", f"key {name[:80]!r} twice", where) from None
    except ValueError as error:
        raise _malformed(where, str(error)) from None
    if not isinstance(record, dict):
        raise _malformed(where, "it must be a JSON object")
    if b"\\ud" in data or b"\\uD" in data:
        try:
            json.dumps(record, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise _malformed(where, "half a surrogate pair, which is no text") from None
    version = record.get("dvcx")
    if version != VERSION or not isinstance(version, int) or isinstance(version, bool):
        raise IntegrityError(
            f"{where}: format version {str(version)[:40]!r} is not known to this dvcx",
            f"it comes from a newer version: upgrade; or restore the file: git checkout -- {where}",
        )
    return record


class _Doubled(Exception):
    pass


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        raise _Doubled
    return record


def doubled_key(text: str) -> tuple[str, int, int]:
    """The first key that JSON text has a second time in one object, and the line and column (from 1) of that second time."""
    objects: list[set[str] | None] = []
    for found in re.finditer(r'("(?:[^"\\]|\\.)*+")([ \t\r\n]*:)?|[{}\[\]]', text):
        if found[0] in ("{", "["):
            objects.append(set() if found[0] == "{" else None)
        elif found[0] in ("}", "]"):
            objects.pop()
        elif found[2] and (names := objects[-1]) is not None:
            name = json.loads(found[1]) if "\\" in found[1] else found[1][1:-1]
            if name in names:
                return name, text.count("\n", 0, found.start()) + 1, found.start() - text.rfind("\n", 0, found.start())
            names.add(name)
    raise ValueError("no key is there twice")


def _constant(text: str) -> float:
    # Params may be .inf or .nan in YAML; Python's JSON writes them as these words.
    return float(text.replace("Infinity", "inf"))


def _is_texts(value: object) -> TypeGuard[list[str]]:
    return isinstance(value, list) and all(isinstance(part, str) for part in value)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_SIZE


def _malformed(where: str, what: str, file: str = "") -> IntegrityError:
    return IntegrityError(f"{where}: broken record: {what}", f"restore it: git checkout -- {file or where.split(':')[0]}")
