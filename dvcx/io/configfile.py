"""Configuration files: read the layers, edit one key with the comments kept. core/config.py knows what the keys mean."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import Any

from dvcx.core import config
from dvcx.core.config import Config, Layer
from dvcx.errors import IntegrityError, UnsafeInput, UsageError, disk_refused, display
from dvcx.io.files import atomic_write

COMMITTED_FILE = ".dvcx/config.toml"
PRIVATE_FILE = ".dvcx/config.local.toml"
MAX_CONFIG = 256 << 10


def load(root: str, environ: Mapping[str, str], user_file: str = "") -> tuple[Config, tuple[str, ...]]:
    """The configuration of the project at `root`, merged, and warnings. `user_file` is absolute, "" for none.

    Raises `IntegrityError` with file:line for broken TOML, `UsageError` for an unusable value, `UnsafeInput` for a link in place
    of a project's file and for a private file that others can read.
    """
    layers = []
    for path, source, kind in (
        (user_file, user_file, config.USER),
        (os.path.join(root, COMMITTED_FILE), COMMITTED_FILE, config.COMMITTED),
        (os.path.join(root, PRIVATE_FILE), PRIVATE_FILE, config.PRIVATE),
    ):
        data = _read(path, kind) if path else None
        if data and data.strip():
            layers.append(Layer(source, kind, config.flatten(_parse(data, source))))
    names = {key.split(".")[1] for layer in layers for key in layer.values if key.startswith("remote.")}
    variables, unknown = config.from_environment(environ, sorted(names))
    if variables:
        layers.append(Layer("environment", config.ENVIRONMENT, variables))
    merged, warnings = config.merge(layers)
    return merged, warnings + unknown


def stored(path: str, *, private: bool) -> dict[str, Any]:
    """What stands in one file, by flat key, as it was read: nothing merged, nothing checked."""
    return config.flatten(_parse(_read(path, config.USER if private else config.COMMITTED) or b"", display(path)))


def edit(path: str, key: str, value: Any, *, private: bool) -> bool:
    """Set `key` to `value` in the TOML file at the absolute `path`, or take it out (None); whether the file changed.

    `value` as from `config.parse_value`. Key "remote.NAME" with None takes a whole remote out. Comments and order stay. A
    private file is made, and left, with mode 0600. Raises `UsageError` when the key may not stand in a committed file.
    """
    whole_remote = value is None and key.startswith("remote.") and key.count(".") == 1
    if whole_remote:
        config.check_remote_name(key.partition(".")[2])
    elif value is None:
        # A key that may not stand here may still be taken out.
        config.find(key)
    else:
        value = config.check_value(key, value, key)
        if not private and not config.find(key).committed:
            raise UsageError(
                f"'{key}' may not stand in a committed file ({display(os.path.basename(path))})",
                f"keep it in the private file: dvcx config set --local {key} VALUE",
            )
    data = _read(path, config.USER if private else config.COMMITTED) or b""
    before = config.flatten(_parse(data, display(path)))
    wanted = {name: setting for name, setting in before.items() if not (name == key or name.startswith(f"{key}."))}
    if value is not None:
        wanted[key] = list(value) if isinstance(value, tuple) else value
    if wanted != before:
        data = _edited(data.decode("utf-8"), key.split("."), wanted.get(key)).encode()
        if config.flatten(_parse(data, display(path))) != wanted:
            raise IntegrityError(f"{display(path)}: '{key}' cannot be changed without harm to the rest", "edit the file by hand")
    elif not data and value is None:
        return False
    return atomic_write(path, data, mode=0o600 if private else 0o644, keep_mode=not private)


def _read(path: str, kind: str) -> bytes | None:
    """The bytes of a configuration file, None when there is none. Only a user's own file may be a link."""
    flags = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
    if kind != config.USER:
        flags |= getattr(os, "O_NOFOLLOW", 0)
    try:
        handle = os.open(path, flags)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        if error.errno in (errno.ELOOP, errno.EMLINK):
            raise UnsafeInput(f"{display(path)}: it is a symbolic link", "replace it by a file") from None
        raise disk_refused(error, "opening it", path) from None
    try:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise UnsafeInput(f"{display(path)}: it is not a regular file", "remove it")
        if kind == config.PRIVATE and facts.st_mode & 0o077 and os.name == "posix":
            # It holds secrets; and git, which makes files others can read, must not be able to plant it.
            raise UnsafeInput(
                f"{display(path)}: other users can read it, but it may hold secrets",
                f"if you wrote it: chmod 600 '{display(path)}'; if it came with the repository: remove it",
            )
        if facts.st_size > MAX_CONFIG:
            raise UnsafeInput(f"{display(path)}: larger than {MAX_CONFIG} bytes", "look at it; a configuration is small")
        return os.read(handle, MAX_CONFIG)
    except OSError as error:
        raise disk_refused(error, "reading it", path) from None
    finally:
        os.close(handle)


def _parse(data: bytes, where: str) -> dict[str, Any]:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise IntegrityError(f"{where}:{line}: not valid UTF-8", f"repair the file, or: git checkout -- {where}") from None
    simple = _parse_simple(text)
    if simple is not None:
        return simple
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        message, _, place = str(error).rpartition(" (at ")
        words = place.replace(",", " ").rstrip(")").split()
        at = f":{words[1]}:{words[3]}" if len(words) == 4 and words[0] == "line" else f":{text.count(chr(10)) + 1}"
        raise IntegrityError(
            f"{where}{at}: not valid TOML: {display(message or str(error))}", f"repair that line, or: git checkout -- {where}"
        ) from None
    except RecursionError:
        raise UnsafeInput(f"{where}: nested too deep", f"restore it: git checkout -- {where}") from None


def _parse_simple(text: str) -> dict[str, Any] | None:
    """Plain TOML (tables, and keys with simple texts, numbers, flags and lists of texts), None for everything else.

    What `dvcx config` writes is plain; importing tomllib would cost as much time as half of `dvcx status`.
    """
    document: dict[str, Any] = {}
    table = document
    headers = set()
    for raw in text.split("\n"):
        line = raw.strip(" ")
        if not line.isprintable():
            return None
        if not line or line[0] == "#":
            continue
        if line[0] == "[":
            names = line[1:-1].split(".")
            if line[-1] != "]" or line in headers or not all(map(_is_bare, names)):
                return None
            headers.add(line)
            table = document
            for name in names:
                table = table.setdefault(name, {})
                if not isinstance(table, dict):
                    return None
            continue
        name, mark, rest = line.partition("=")
        name = name.rstrip(" ")
        value = _simple_value(rest.strip(" ")) if mark else None
        if value is None or not _is_bare(name) or name in table:
            return None
        table[name] = value
    return document


def _simple_value(text: str) -> Any:
    if text == "true" or text == "false":
        return text == "true"
    if text.isascii() and text.isdecimal() and len(text) < 16 and (text[0] != "0" or text == "0"):
        return int(text)
    if text[:1] == "[" and text[-1:] == "]":
        parts = [_simple_text(part.strip(" ")) for part in text[1:-1].split(",")]
        return None if None in parts else parts
    return _simple_text(text)


def _simple_text(text: str) -> str | None:
    inner = text[1:-1]
    if len(text) < 2 or text[0] != '"' or text[-1] != '"' or '"' in inner or "\\" in inner:
        return None
    return inner


def _is_bare(name: str) -> bool:
    return name.isascii() and name.replace("-", "").replace("_", "a").isalnum()


def _edited(text: str, names: list[str], value: Any) -> str:
    import tomlkit
    import tomlkit.exceptions

    try:
        document = tomlkit.parse(text)
        if value is None:
            _take_out(document, names)
            return tomlkit.dumps(document)
        table: Any = document
        for depth, name in enumerate(names[:-1], 1):
            if name not in table:
                table[name] = tomlkit.table(is_super_table=depth < len(names) - 1)
            table = table[name]
        table[names[-1]] = value
        return tomlkit.dumps(document)
    except (tomlkit.exceptions.TOMLKitError, TypeError, ValueError, AttributeError):
        raise IntegrityError("the file is laid out in a way that cannot be edited safely", "edit it by hand") from None


def _take_out(table: Any, names: list[str]) -> None:
    """Remove a key, then the tables it leaves empty."""
    if names[0] not in table:
        return
    if len(names) > 1:
        _take_out(table[names[0]], names[1:])
        if len(table[names[0]]):
            return
    del table[names[0]]
