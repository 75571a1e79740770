"""Plain data as YAML text, in the fewest quotes a YAML 1.2 reader needs."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from dvcx.io.yaml.reading import resolve

_PLAIN_TEXT = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./ ,=+@%^~()*<>|&;$\\!?'\"\[\]{}:#-]*")
_PLAIN_IN_FLOW = re.compile(r"[A-Za-z0-9_./][A-Za-z0-9_./ =+@%^~-]*")


def block(record: Mapping[str, Any], column: int, *, step: int = 2, dash: int = 0) -> str:
    """`record` as block YAML, every line ended: keys from `column` on, `step` deeper per level, dashes `dash` deeper."""
    return "".join(f"{line}\n" for line in _lines(record, column, step, dash))


def flow(value: Any, *, in_flow: bool = True) -> str:
    """`value` on one line. Without `in_flow` a text may hold what only separates inside brackets."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{_text(key, in_flow=True)}: {flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(flow(inner) for inner in value) + "]"
    if isinstance(value, str):
        return _text(value, in_flow=in_flow)
    if value is None or isinstance(value, bool):
        return "null" if value is None else "true" if value else "false"
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return ".nan" if value != value else ".inf" if value > 0 else "-.inf"
    return repr(value)


def _lines(value: Any, column: int, step: int, dash: int) -> Iterator[str]:
    margin = " " * column
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _entry(f"{margin}{_text(key)}:", inner, column, step, dash)
        return
    for item in value:
        if isinstance(item, Mapping) and item:
            rows = list(_lines(item, column + 2, step, dash))
            yield f"{margin}- {rows[0].lstrip(' ')}"
            yield from rows[1:]
        elif isinstance(item, list | tuple):
            yield f"{margin}- {flow(item)}"
        else:
            yield from _entry(f"{margin}-", item, column, step, dash)


def _entry(head: str, value: Any, column: int, step: int, dash: int) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield head
        yield from _lines(value, column + step, step, dash)
    elif isinstance(value, list | tuple) and value:
        yield head
        yield from _lines(value, column + dash, step, dash)
    elif isinstance(value, str) and _fits_literal(value):
        yield f"{head} |{'' if value.endswith(chr(10)) else '-'}"
        for line in value.removesuffix("\n").split("\n"):
            yield f"{' ' * (column + 2)}{line}" if line else ""
    else:
        yield f"{head} {flow(value, in_flow=False)}"


def _fits_literal(text: str) -> bool:
    """Whether a text of several lines can stand as a `|` block, line by line."""
    lines = text.removesuffix("\n").split("\n")
    return (
        len(lines) > 1
        and bool(lines[0])
        and lines[0][0] != " "
        and bool(lines[-1].strip())
        and all(line.isprintable() and (not line or bool(line.strip())) for line in lines)
    )


def _text(text: str, *, in_flow: bool = False) -> str:
    """A text as one scalar on one line, without quotes where it needs none."""
    fits = (_PLAIN_IN_FLOW if in_flow else _PLAIN_TEXT).fullmatch(text) and text[-1] not in " :"
    if fits and ": " not in text and " #" not in text and _stays_text(text):
        return text
    if text.isprintable():
        return "'" + text.replace("'", "''") + "'" if "'" not in text or '"' in text or "\\" in text else f'"{text}"'
    return '"' + "".join(_escaped(char) for char in text) + '"'


def _stays_text(text: str) -> bool:
    try:
        return isinstance(resolve(text), str)
    except ValueError:
        return False


def _escaped(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    if char.isprintable():
        return char
    code = ord(char)
    short = {"\n": "\\n", "\t": "\\t", "\r": "\\r"}.get(char)
    return short or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}")
