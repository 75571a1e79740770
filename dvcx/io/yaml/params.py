"""Files of parameters: YAML, JSON, TOML and Python as the same plain data, within the same bounds."""

from __future__ import annotations

import re
from typing import Any

from dvcx.core.records import doubled_key
from dvcx.errors import IntegrityError, UnsafeInput, UsageError, display
from dvcx.io.yaml.reading import HINT, LONG, MAX_DEPTH, MAX_DIGITS, MAX_NODES, decode, load, place_of


def load_params(data: bytes, where: str) -> dict[str, Any]:
    """The parameters in the file `where` (YAML, or by its extension JSON, TOML or Python), as plain data.

    An empty file has none. Raises what `load` raises, for all of them, and `UsageError` for a file that is no mapping.
    """
    value = load_values(data, where)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise UsageError(f"{display(where)}: parameters must be 'key: value', not a list or a single value", "give each a name")
    return value


def load_values(data: bytes, where: str) -> Any:
    """Like `load_params`, for a file that may hold anything; None when it is empty."""
    extension = where.rpartition("/")[2].rpartition(".")[2].lower()
    if extension == "py":
        from dvcx.io.yaml.python import load_python

        return _plain(load_python(data, where), where)
    if extension == "json":
        return _load_json(data, where)
    if extension == "toml":
        return _load_toml(data, where)
    return load(data, where).value


def _load_json(data: bytes, where: str) -> Any:
    import json

    source = decode(data, where)
    if not source.text.strip():
        return None
    try:
        value = json.loads(source.text, object_pairs_hook=_no_doubles, parse_int=_short_int)
    except _Doubled:
        name, line, column = doubled_key(source.text)
        raise IntegrityError(f"{display(where)}:{line}:{column}: broken JSON: key '{display(name)}' twice", HINT) from None
    except json.JSONDecodeError as error:
        raise IntegrityError(f"{display(where)}:{error.lineno}:{error.colno}: broken JSON: {error.msg}", HINT) from None
    except RecursionError:
        raise UnsafeInput(f"{display(where)}: nested deeper than {MAX_DEPTH} levels", HINT) from None
    except ValueError as error:
        raise IntegrityError(f"{display(where)}: broken JSON: {display(str(error)[:200])}", HINT) from None
    return _plain(value, where)


def _short_int(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError("a number too long; put it in quotes if it is text")
    return int(text)


class _Doubled(Exception):
    pass


def _no_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) < len(pairs):
        raise _Doubled
    return record


# tomllib is slow: more takes it over a second.
_MAX_TOML = 256 << 10
# It needs time by the square of the parts of a dotted key.
_DOTTED = re.compile(r"""(?<![A-Za-z0-9_-])(?:(?:[A-Za-z0-9_-]++|"(?:[^"\\\n]|\\.)*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){32}""")


def _load_toml(data: bytes, where: str) -> Any:
    import tomllib

    if len(data) > _MAX_TOML:
        raise UnsafeInput(f"{display(where)}: larger than {_MAX_TOML >> 10} KiB", "keep so many values in JSON or YAML")
    text = decode(data, where).text
    deep = _DOTTED.search(text)
    if deep:
        raise UnsafeInput(f"{display(where)}:{place_of(text[: deep.start()])}: nested deeper than {MAX_DEPTH} levels", HINT)
    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r" \(at (?:line (\d+), column (\d+)|end of document)\)$", str(error))
        place = f":{found.group(1)}:{found.group(2)}" if found and found.group(1) else ""
        problem = str(error)[: found.start()] if found and place else str(error)
        raise IntegrityError(f"{display(where)}{place}: broken TOML: {display(problem[:200])}", HINT) from None
    except RecursionError:
        raise UnsafeInput(f"{display(where)}: nested deeper than {MAX_DEPTH} levels", HINT) from None
    except ValueError:
        raise IntegrityError(f"{display(where)}: broken TOML: a number or date that cannot be", HINT) from None
    return _plain(value, where)


def _plain(value: Any, where: str) -> Any:
    """`value` with dates as text, within the bounds YAML has as well."""
    holder = [value]
    todo: list[tuple[Any, Any, Any, int]] = [(holder, 0, value, 0)]
    count = 0
    while todo:
        box, key, item, depth = todo.pop()
        if isinstance(item, dict | list):
            if depth >= MAX_DEPTH:
                raise UnsafeInput(f"{display(where)}: nested deeper than {MAX_DEPTH} levels", HINT)
            count += len(item)
            if count > MAX_NODES:
                raise UnsafeInput(f"{display(where)}: more than {MAX_NODES:,} values", LONG)
            inner = list(item.items() if isinstance(item, dict) else enumerate(item))
            todo += [(item, name, child, depth + 1) for name, child in inner]
            if isinstance(item, dict):
                todo += [(None, None, name, depth) for name in item if not name.isascii()]
        elif isinstance(item, str):
            if not item.isascii() and any(0xD800 <= ord(char) <= 0xDFFF for char in item):
                raise IntegrityError(f"{display(where)}: half of a surrogate pair in '{display(item[:80])}'", HINT)
        elif isinstance(item, int):
            if item.bit_length() > MAX_DIGITS * 4:
                raise IntegrityError(f"{display(where)}: a number too long", "put it in quotes if it is text")
        elif item is not None and not isinstance(item, float):
            box[key] = item.isoformat()
    return holder[0]
