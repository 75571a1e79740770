"""How a stage is to be run: resources, mutexes, environment, retries and time limit, as written and as values."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from dvcx.core.documents import Document
from dvcx.core.pipeline.checking import Place, expect, kind, refused, texts
from dvcx.core.records import MAX_RETRIES
from dvcx.errors import display

KEYS = ("resources", "mutex", "env", "retries", "timeout")

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 1 << 10, "mi": 1 << 20, "gi": 1 << 30, "ti": 1 << 40}
# Compiled by re when they are needed, which is seldom; every command imports this file.
_SIZE = r"([0-9]+(?:\.[0-9]+)?)\s*([kmgt]i?|)b?"
_TIME = r"(?:([0-9.]+)\s*d)?\s*(?:([0-9.]+)\s*h)?\s*(?:([0-9.]+)\s*m(?:in)?)?\s*(?:([0-9.]+)\s*s)?"
_VARIABLE = r"[A-Za-z_][A-Za-z0-9_]*"
_TOKEN = r"[^\W\d][\w-]*"


class Execution(NamedTuple):
    """What a stage needs while it runs, and how often and how long it may try.

    `cpu` and `gpu` in devices, `mem` in bytes, `time` (a hint) and `timeout` in seconds, 0 for none; `tokens` are amounts
    of whatever else `resources` names; `env` are names of environment variables whose values are part of the key.
    """

    cpu: float = 1.0
    mem: int = 0
    gpu: float = 0.0
    time: float = 0.0
    tokens: tuple[tuple[str, float], ...] = ()
    mutex: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    retries: int = 0
    timeout: float = 0.0


DEFAULT = Execution()


def parse_execution(document: Document, at: Place, body: Mapping[str, Any]) -> Execution:
    """The execution of the stage whose mapping `body` stands at `at`. Raises `UsageError` with the place."""
    if not any(key in body for key in KEYS):
        return DEFAULT
    resources = {} if body.get("resources") is None else body["resources"]
    expect(document, (*at, "resources"), resources, dict)
    inner = (*at, "resources")
    known = ("cpu", "mem", "gpu", "time")
    return Execution(
        _amount(document, inner, resources, "cpu", 1.0),
        int(_measured(document, inner, resources, "mem", _bytes, "for example: mem: 4GiB")),
        _amount(document, inner, resources, "gpu", 0.0),
        _measured(document, inner, resources, "time", _seconds, "for example: time: 90, or 30m, or 1h30m"),
        tuple(
            (_token(document, inner, key), _amount(document, inner, resources, key, 0.0)) for key in resources if key not in known
        ),
        _words(document, at, body, "mutex", r"[\w@+.-]+", "for example: mutex: database"),
        _words(document, at, body, "env", _VARIABLE, "name the variables: env: [CUDA_VISIBLE_DEVICES]"),
        _retries(document, at, body),
        _measured(document, at, body, "timeout", _seconds, "for example: timeout: 90, or 30m, or 1h30m"),
    )


def _amount(document: Document, at: Place, body: Mapping[str, Any], key: str, default: float) -> float:
    value = body.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e9:
        raise refused(document, (*at, key), f" must be a number, not {_shown(value)}", f"for example: {key}: 1")
    return float(value)


def _measured(document: Document, at: Place, body: Mapping[str, Any], key: str, parse: Any, hint: str) -> float:
    value = body.get(key)
    if value is None:
        return 0.0
    found = None
    if isinstance(value, str):
        found = parse(value.strip().lower())
    elif isinstance(value, int | float) and not isinstance(value, bool):
        found = float(value)
    if found is None or not math.isfinite(found) or not 0 <= found < 1e18:
        what = "a size" if parse is _bytes else "a time"
        raise refused(document, (*at, key), f" must be {what}, not {_shown(value)}", hint)
    return float(found)


def _bytes(text: str) -> float | None:
    found = re.fullmatch(_SIZE, text)
    return float(found.group(1)) * _UNITS[found.group(2)] if found else None


def _seconds(text: str) -> float | None:
    found = re.fullmatch(_TIME, text)
    try:
        if not text or found is None:
            return float(text) if text else None
        return sum(float(part or 0) * unit for part, unit in zip(found.groups(), (86400, 3600, 60, 1), strict=True))
    except ValueError:
        return None


def _token(document: Document, at: Place, key: str) -> str:
    if not re.fullmatch(_TOKEN, key) or len(key) > 100:
        raise refused(
            document, (*at, key), f": '{display(key[:80])}' cannot name a resource", "letters, digits, '_' and '-'", value=False
        )
    return key


def _words(document: Document, at: Place, body: Mapping[str, Any], key: str, wanted: str, hint: str) -> tuple[str, ...]:
    place = (*at, key)
    words = texts(document, place, body.get(key), single=key == "mutex")
    for number, word in enumerate(words):
        if not re.fullmatch(wanted, word):
            inner = (*place, number) if isinstance(body[key], list) else place
            raise refused(document, inner, f": '{display(word[:80])}' is no name", hint)
    return tuple(dict.fromkeys(words))


def _retries(document: Document, at: Place, body: Mapping[str, Any]) -> int:
    value = body.get("retries", 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_RETRIES:
        raise refused(
            document,
            (*at, "retries"),
            f" must be a whole number from 0 to {MAX_RETRIES}, not {_shown(value)}",
            "for example: retries: 2",
        )
    return value


def _shown(value: object) -> str:
    return f"'{display(str(value)[:80])}'" if isinstance(value, str | int | float) else kind(value)
