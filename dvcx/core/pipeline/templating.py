"""Templates: `${train.lr}` in a text, what it names among the values of a scope, and what the text becomes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from dvcx.core.pipeline.shell import Unquotable, Value, filled, quoted

MAX_NESTING = 8
MAX_FILLED = 1 << 20
"""No text with its templates filled in is longer; a shell takes no command of that length either."""
_MARK = "${"
_KEY = re.compile(r"[^.\[\]]+(?:\.[^.\[\]]+|\[[^.\[\]]+\])*").fullmatch


class Problem(Exception):
    """What is wrong with a template, and how to repair it; who knows the place makes an error of it."""

    def __init__(self, message: str, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Origin(NamedTuple):
    """Where a value comes from: the `path` in `source`, which is the path of a file, or else words like `vars[0]`."""

    source: str = ""
    path: str = ""
    file: bool = False


LOCAL = Origin()


class Scope(NamedTuple):
    """The values templates may name, and where each comes from. `loaded` are the files, with the keys taken (None: all)."""

    values: Mapping[str, Any] = {}
    origins: Mapping[str, Any] = {}
    loaded: Mapping[str, tuple[str, ...] | None] = {}
    reserved: tuple[str, ...] = ()


class Style(NamedTuple):
    """How a mapping in a command becomes options: `boolean_optional` writes `--no-x` for false, `append` repeats `--x`."""

    boolean: str = "store_true"
    list: str = "nargs"


class Expression(NamedTuple):
    """What stands between `${` and `}`: texts, and expressions inside it."""

    parts: tuple[str | Expression, ...]
    text: str


Parts: TypeAlias = "tuple[str | Expression, ...]"


def templated(text: str) -> bool:
    """Whether there is anything to replace in `text`, an escape included."""
    return _MARK in text


@lru_cache(maxsize=4096)
def parse(text: str) -> Parts:
    """The texts and expressions of a template. A backslash before `${` makes it text. Raises `Problem`."""
    parts: list[str | Expression] = []
    literal, at = "", 0
    while (found := text.find(_MARK, at)) >= 0:
        if found and text[found - 1] == "\\":
            literal += text[at : found - 1] + _MARK
            at = found + 2
            continue
        literal += text[at:found]
        expression, at = _expression(text, found + 2, 1)
        parts += [literal, expression] if literal else [expression]
        literal = ""
    literal += text[at:]
    return (*parts, literal) if literal or not parts else tuple(parts)


def _expression(text: str, at: int, depth: int) -> tuple[Expression, int]:
    """The expression that starts at `at`, and where the text goes on behind it."""
    if depth > MAX_NESTING:
        raise Problem(f"'{_short(text)}' nests templates more than {MAX_NESTING} deep", "name the value in the middle in vars")
    start, parts = at, list[str | Expression]()
    while True:
        end, inner = text.find("}", at), text.find(_MARK, at)
        if end < 0:
            hint = "close it, or write \\${ where the text is meant as it stands"
            raise Problem(f"'{_short(text[start - 2 :])}' has no closing '}}'", hint)
        if not 0 <= inner < end:
            break
        nested, after = _expression(text, inner + 2, depth + 1)
        parts += [text[at:inner], nested]
        at = after
    parts.append(text[at:end])
    if len(parts) == 1:
        _steps(text[start:end])
    return Expression(tuple(part for part in parts if part != ""), text[start:end]), end + 1


def _steps(key: str) -> list[str]:
    if not _KEY(key):
        raise Problem(f"'${{{_short(key)}}}' is no template", "write ${name}, ${name.key} or ${list[0]}; \\${ is just text")
    return [step.strip() for step in key.replace("[", ".").replace("]", "").split(".")]


class Found(NamedTuple):
    """A value and where it comes from."""

    value: Any
    trace: Any


class FileText(str):
    """A text that somebody's file is named by: in a command it is quoted for the shell."""


class FileItem(dict[str, Any]):
    """An item that is a file: `${item}` is its path, and so are `path`, `name`, `stem` and `ext` parts of it."""

    def __init__(self, path: str) -> None:
        name = path.rpartition("/")[2]
        stem, dot, ext = name.rpartition(".")
        stem, ext = (stem, dot + ext) if stem else (name, "")
        parts = {"path": path, "name": name, "stem": stem, "ext": ext, "dir": path.rpartition("/")[0] or "."}
        super().__init__({key: FileText(part) for key, part in parts.items()})


def select(scope: Scope, expression: Expression, used: dict[str, dict[str, None]]) -> Found:
    """What an expression names. Notes in `used`, by file, the parameters it looked at. Raises `Problem`."""
    key = "".join(part if isinstance(part, str) else to_text(_scalar(scope, part, used)) for part in expression.parts)
    value: Any = scope.values
    trace: Any = scope.origins
    steps = _steps(key)
    for number, step in enumerate(steps):
        index: Any = step
        if isinstance(value, list):
            index = int(step) if re.fullmatch("-?[0-9]{1,9}", step) else None
            known = index is not None and -len(value) <= index < len(value)
        else:
            known = isinstance(value, dict) and step in value
        if not known:
            raise _undefined(scope, key, steps[:number], value)
        value = value[index]
        trace = below(trace, index)
    if isinstance(trace, Origin) and trace.file and not isinstance(value, dict):
        used.setdefault(trace.source, {})[trace.path] = None
    return Found(value["path"] if isinstance(value, FileItem) else value, trace)


def below(trace: Any, step: str | int) -> Any:
    """The trace of what a mapping or list holds at `step`."""
    if isinstance(trace, Origin):
        return trace._replace(path=f"{trace.path}.{step}" if trace.path else str(step))
    return trace[step]


def _scalar(scope: Scope, expression: Expression, used: dict[str, dict[str, None]]) -> Any:
    value = select(scope, expression, used).value
    if isinstance(value, dict | list):
        what = f"'${{{_short(expression.text)}}}' is {_kind(value)}, which cannot be part of a name"
        raise Problem(what, "name one value in it")
    return value


def _undefined(scope: Scope, key: str, before: list[str], value: Any) -> Problem:
    from dvcx.core.spelling import did_you_mean

    if before and not isinstance(value, dict | list):
        return Problem(f"'{'.'.join(before)}' is a single value: there is no '{_short(key)}'", f"write ${{{'.'.join(before)}}}")
    files = ", ".join(scope.loaded)
    hint = did_you_mean(key, _names(scope.values))
    if not hint and re.fullmatch(r"[A-Z][A-Z0-9_]*|.*:[-=+?].*", key):
        hint = f"a variable of the shell is written \\${{{_short(key)}}}"
    if not hint and (first := key.partition(".")[0]) in ("item", "key"):
        over = "" if first == "item" else " over a mapping"
        hint = f"'{first}' is there in the 'do' of a foreach{over}, and beside matrix"
    if not hint and files:
        hint = f"these files were read: {_short(files, 300)}"
    hint = hint or "no file was read: write params.yaml beside it, or name files in vars"
    return Problem(f"'{_short(key)}' is not defined", hint)


def _names(values: Mapping[str, Any], most: int = 2000) -> Iterator[str]:
    """Every key there is, breadth first, as templates name them."""
    todo: list[tuple[str, Any]] = [("", values)]
    for prefix, value in todo:
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, child in inner:
            if len(todo) > most:
                return
            name = f"{prefix}[{key}]" if isinstance(value, list) else f"{prefix}.{key}" if prefix else str(key)
            todo.append((name, child))
            yield name


# What a text becomes


def fill(scope: Scope, text: str, used: dict[str, dict[str, None]], *, command: Style | None, whole: bool) -> Found:
    """The value of `text`: of one template alone whatever it names, with its type; of anything else a text.

    `command`: it is (part of) a command, in which mappings become options and what a file says is quoted for the shell.
    `whole`: a mapping or list may stand for the text. Raises `Problem`.
    """
    parts = parse(text)
    if len(parts) == 1 and isinstance(parts[0], Expression):
        found = select(scope, parts[0], used)
        if isinstance(found.value, FileText):
            return Found(quoted(found.value) if command is not None else str(found.value), LOCAL)
        if isinstance(found.value, dict) and command is not None:
            return Found(options(found.value, command), LOCAL)
        if isinstance(found.value, dict | list) and not whole:
            raise Problem(
                f"'{_short(text)}' is {_kind(found.value)}, where one value is needed",
                "name a value in it; only foreach, matrix and cmd take more",
            )
        return found
    pieces = list[str | Value]()
    length = 0
    for part in parts:
        piece = part if isinstance(part, str) else _piece(select(scope, part, used), part, command)
        pieces.append(piece)
        length += len(piece.text if isinstance(piece, Value) else piece)
        if length > MAX_FILLED:
            raise Problem(f"with its templates filled in it is longer than {MAX_FILLED:,} characters", "put the text into a file")
    try:
        return Found(filled(pieces), LOCAL)
    except Unquotable as error:
        raise Problem(
            f"'${{{_short(error.name)}}}' cannot be quoted for the shell: it stands in {error.place}",
            f"give it a name first, on a line before: x=${{{_short(error.name)}}}, and write \"$x\" there",
        ) from None


def _piece(found: Found, part: Expression, command: Style | None) -> str | Value:
    """What stands for an expression in a text; in a command what a file says is a value, to be quoted."""
    if isinstance(found.value, dict) and command is not None:
        return Value(options(found.value, command), part.text, options=True)
    if isinstance(found.value, dict | list):
        what = f"'${{{_short(part.text)}}}' is {_kind(found.value)}, which cannot be part of a text"
        raise Problem(what, "name a value in it" if isinstance(found.value, dict) else "name an item of it, or use foreach")
    from_file = isinstance(found.value, FileText) or (isinstance(found.trace, Origin) and found.trace.file)
    text = to_text(found.value)
    return Value(text, part.text) if command is not None and from_file else text


def to_text(value: Any) -> str:
    """A single value inside a text, as DVC writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def options(values: Mapping[str, Any], style: Style) -> str:
    """A mapping as the options of a command: `{lr: 0.1, deep: {on: true}, l: [1, 2]}` is `--lr 0.1 --deep.on --l 1 2`."""
    words: list[str] = []
    _add_options(words, values, "", style)
    return " ".join(words)


def _add_options(words: list[str], values: Mapping[str, Any], prefix: str, style: Style) -> None:
    add = words.append
    for key, value in values.items():
        key = f"{prefix}{key}"
        if isinstance(value, dict):
            _add_options(words, value, f"{key}.", style)
            continue
        name = quoted(key)
        if isinstance(value, bool):
            if value:
                add(f"--{name}")
            elif style.boolean == "boolean_optional":
                add(f"--no-{name}")
        elif isinstance(value, list):
            if any(isinstance(item, dict | list) for item in value):
                problem = f"'{_short(key)}' holds lists or mappings in a list, which are no options"
                raise Problem(problem, "name the values one by one")
            items = [_word(item) for item in value]
            if style.list == "append":
                words += [f"--{name} {item}" for item in items]
            elif items:
                add(f"--{name} {' '.join(items)}")
        else:
            add(f"--{name} {_word(value)}")


def _word(value: Any) -> str:
    return quoted(value) or "''" if isinstance(value, str) else str(value)


def _kind(value: object) -> str:
    return "a mapping" if isinstance(value, dict) else "a list"


def _short(text: str, most: int = 80) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
