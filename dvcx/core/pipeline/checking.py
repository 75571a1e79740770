"""Checks of one value in dvcx.yaml: its kind and its keys; each refusal names file, line, column and field."""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dvcx.core.documents import Document
from dvcx.core.paths import resolve
from dvcx.core.spelling import did_you_mean
from dvcx.errors import DvcxError, UnsafeInput, UsageError, display

# Most paths: nothing in them that the path rule would change or refuse.
_PART = r"(?!tmp-dvcx-)[A-Za-z0-9_](?:[A-Za-z0-9_.-]{0,150}[A-Za-z0-9_-])?"
_SIMPLE = re.compile(rf"{_PART}(?:/{_PART}){{0,20}}").fullmatch
# A scheme of one letter is one as well: `c:/x` has one slash, and is no url.
is_url = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://").match

# What stages write: it stays inside the project.
_WRITTEN = ("outs", "metrics", "plots")

# Where a value stands: the keys and indexes that lead to it.
Place = tuple[str | int, ...]

_WORDS = {dict: "a mapping", list: "a list", str: "text", bool: "true or false", int: "a number", float: "a number"}


def refused(
    document: Document, at: Place, problem: str, hint: str, *, value: bool = True, kind: type[DvcxError] = UsageError
) -> DvcxError:
    """The error for what stands at `at`: `file:line:column: field problem`, at its value or else at its key."""
    return kind(f"{document.where(*at, value=value)}: {field(at)}{problem}", hint)


def check_keys(
    document: Document, at: Place, body: Mapping[str, Any], known: Sequence[str], later: frozenset[str] = frozenset()
) -> None:
    """Refuse a key that is not `known`; those of `later` are promised for a later version."""
    for key in body:
        if key in known:
            continue
        where = document.where(*at, key)
        name = f"{field(at)}: " if at else ""
        if key in later:
            raise UsageError(
                f"{where}: {name}'{display(key)}' is not supported yet by this version", f"it understands: {', '.join(known)}"
            )
        hint = _misplaced(at, key, body, known) or did_you_mean(key, known) or f"it understands: {', '.join(known)}"
        raise UsageError(f"{where}: {name}unknown key '{display(key[:80])}'", hint)


def _misplaced(at: Place, key: str, body: Mapping[str, Any], known: Sequence[str]) -> str:
    """How to repair a key that is known, elsewhere; "" for one that is not."""
    if key != key.strip():
        return "it begins or ends with a blank that is no plain space: indent with plain spaces"
    if not at and isinstance(body[key], dict | None) and (body[key] is None or "cmd" in body[key]):
        return f"did you mean '{known[0]}'?" if key == "stage" else "stages stand below a line 'stages:', and are indented"
    if tuple(known) == ("foreach", "do"):
        if key == "matrix":
            return "use one of the two: with matrix, 'cmd' and all the rest stand beside it, without 'do'"
        return f"what foreach repeats stands below 'do': write '{key}' there, indented" if did_you_mean(key, _IN_DO) else ""
    return ""


_IN_DO = ("cmd", "deps", "outs", "params", "metrics", "plots", "wdir", "desc", "meta", "frozen", "always_changed", "vars")


def flag(document: Document, at: Place, body: Mapping[str, Any], key: str, default: bool) -> bool:
    """The switch `key` of the mapping at `at`."""
    value = body.get(key, default)
    if not isinstance(value, bool):
        raise refused(
            document,
            (*at, key),
            f" must be true or false, not {kind(value)}",
            f"write {key}: {'true' if default else 'false'}, its default, or {key}: {'false' if default else 'true'}",
        )
    return value


def text(document: Document, at: Place, body: Mapping[str, Any], key: str) -> str:
    """The text `key` of the mapping at `at`, "" when it is not there."""
    value = body.get(key)
    if value is None:
        return ""
    expect(document, (*at, key), value, str)
    return str(value)


def texts(document: Document, at: Place, value: object, *, single: bool = False) -> tuple[str, ...]:
    """A list of texts, with `single` one text as well; () for nothing."""
    if value is None:
        return ()
    if single and not isinstance(value, list):
        expect(document, at, value, str)
        return (str(value),)
    expect(document, at, value, list)
    assert isinstance(value, list)
    for number, item in enumerate(value):
        expect(document, (*at, number), item, str)
    return tuple(value)


def plain(document: Document, at: Place, body: Mapping[str, Any], key: str) -> str:
    """Whatever `key` of the mapping at `at` holds, as canonical JSON; "" when it is not there."""
    return "" if body.get(key) is None else canonical_text(body[key])


def canonical_text(value: object) -> str:
    """`value` as JSON with sorted keys and no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def expect(document: Document, at: Place, value: object, wanted: type) -> None:
    """Refuse a value that is not of the type `wanted`."""
    if not isinstance(value, wanted):
        raise refused(document, at, f" must be {_WORDS[wanted]}, not {kind(value)}", display(_meant(at[-1], value, wanted)))


def _meant(name: str | int, value: object, wanted: type) -> str:
    """How a value of another type is written as one of the type `wanted`."""
    if name == "cmd" and not isinstance(value, int | float):
        return "say what it runs: cmd: python train.py; a command with ': ' in it is put in quotes"
    if wanted is str:
        return "put it in quotes if it is meant as text"
    if wanted is list:
        inside = value[:80] if isinstance(value, str) else ", ".join(value)[:80] if isinstance(value, dict) else "…"
        return "put '- ' before each of its lines: it is a list" if name == "vars" else f"write it as a list: {name}: [{inside}]"
    if isinstance(value, list):
        return "take the '-' away: each name stands at the beginning of its line, with ':' behind it"
    if isinstance(value, bool):
        return f"indent '{name}: …' deeper than the path it is about"
    return f"write its keys below '{name}:', each with ': ' behind it, two spaces deeper than the name"


def path(document: Document, at: Place, written: object, base: str, where: str = "") -> str:
    """The project path that the text `written` names as seen from the directory `base`; only a wdir may be the project."""
    if isinstance(written, str) and _SIMPLE(written) and len(base) + len(written) < 1000:
        return f"{base}/{written}" if base else written
    where = f"{where or document.where(*at, value=True)}: {field(at)}"
    if not isinstance(written, str):
        raise UsageError(f"{where} must be a path, not {kind(written)}", "put it in quotes if it is a file's name")
    if is_url(written) or (any(step in _WRITTEN for step in at) and _leaves(base, written)):
        raise _outside(at, written, where)
    found = resolve(base, written, where)
    if not found and at[-1] != "wdir":
        raise UsageError(f"{where} is the project itself: '{display(written)}'", "name the files or directories it is about")
    return found


def _leaves(base: str, written: str) -> bool:
    return written.startswith("/") or posixpath.normpath(posixpath.join(base, written)).startswith("..")


def _outside(at: Place, written: str, where: str) -> DvcxError:
    shown = display(written.partition("?")[0][:200])
    if not any(step in _WRITTEN for step in at):
        return UsageError(f"{where}: '{shown}' is a url, where a path in the project is needed", "only deps may be urls")
    hint = "write it to a path in the project, and let dvcx push send it (the output's remote: NAME says where to)"
    return UnsafeInput(f"{where}: unsafe path '{shown}': an output leaves the project", hint)


def kind(value: object) -> str:
    """What a value is, in words."""
    return "nothing" if value is None else _WORDS.get(type(value), "something else")


def field(at: Place) -> str:
    """The name of a place for people: `stages.train.deps[0]`."""
    name = ""
    for step in at:
        name += f"[{step}]" if isinstance(step, int) else f".{step}" if name else step
    return display(name[:200])
