"""Safe reading of YAML: events of libyaml to plain data with places, within bounds, without tags."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from dvcx.core.documents import Document, Mark
from dvcx.errors import DvcxError, IntegrityError, UnsafeInput, display

# `yaml` costs 15 ms to import, so only a function that needs it imports it.

MAX_BYTES = 1 << 20
MAX_DEPTH = 32
MAX_NODES = 100_000

IN_QUOTES = "inside [ ] and { } a value with ${ is put in quotes: [\"model-${name}.txt\"]"
HINT = "repair the file there; git diff shows what changed since the last commit"
# What YAML does not allow unescaped, and the line breaks that YAML 1.2 reads as text and libyaml as line breaks:
# what looks like one comment must not turn out to be a command.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")

# The core schema of YAML 1.2 (https://yaml.org/spec/1.2.2/#103-core-schema).
_INT = re.compile(r"[-+]?[0-9]+")
_BASED = re.compile(r"0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_CONSTANTS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **{sign + word: float(sign + "inf") for sign in ("", "+", "-") for word in (".inf", ".Inf", ".INF")},
    **dict.fromkeys((".nan", ".NaN", ".NAN"), float("nan")),
}
# Longer numbers are refused: Python turns them into text only up to 4,300 digits, and no parameter needs them.
MAX_DIGITS = 300


def load(data: bytes, where: str) -> Document:
    """The YAML file `where`, whose bytes are `data`: plain data with the place of each key and value.

    YAML 1.2 core scalars; every key is text, as written. Anchors, aliases (which share one object) and merge keys are
    understood. Raises `UnsafeInput` for a file over 1 MiB, 32 levels or 100,000 values with aliases written out, and
    for tags; `IntegrityError` for broken YAML, bytes that are no UTF-8, control characters and keys given twice.
    """
    text = decode(data, where).text
    builder = _Builder(where)
    for event in events(text, where):
        builder.take(event)
    return Document(builder.value, where, builder.marks)


@dataclass(frozen=True, slots=True)
class Source:
    """A file's text with `\\n` as its line end, and what it had besides or instead."""

    text: str
    bom: bool
    crlf: bool
    mixed: bool

    def encode(self, text: str) -> bytes:
        """`text` with the byte order mark and the line ends this file had."""
        return (b"\xef\xbb\xbf" if self.bom else b"") + (text.replace("\n", "\r\n") if self.crlf else text).encode()


def decode(data: bytes, where: str) -> Source:
    """The text of a file, and what is needed to write it back. Raises `UsageError` or `UnsafeInput` naming `where`."""
    where = display(where)
    if len(data) > MAX_BYTES:
        raise UnsafeInput(f"{where}: larger than {MAX_BYTES >> 20} MiB", "keep data out of it: name files instead")
    bom = data.startswith(b"\xef\xbb\xbf")
    data = data[3:] if bom else data
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        place = place_of(data[: error.start].decode("utf-8"))
        raise IntegrityError(f"{where}:{place}: not valid UTF-8", "save the file as UTF-8") from None
    pairs = text.count("\r\n")
    mixed = 0 < pairs < text.count("\n")
    found = _CONTROL.search(text)
    if found is None and "\r" in text:
        found = re.search(r"\r(?!\n)", text)
        text = text.replace("\r\n", "\n")
    if found:
        raise IntegrityError(
            f"{where}:{place_of(found.string[: found.start()])}: control character {found.group()!a}",
            "remove it, or write it as an escape in double quotes",
        )
    return Source(text, bom, pairs > 0, mixed)


def place_of(before: str) -> str:
    """Line and column, from 1, of what follows the text `before`."""
    return f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"


def events(text: str, where: str) -> Iterator[Any]:
    """The events of the only document in `text`."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    documents = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise _refused(IntegrityError, where, event.start_mark, "a second document", "keep one document per file")
                if event.tags:
                    raise _refused(UnsafeInput, where, event.start_mark, "tags are not allowed", "remove the %TAG line")
            yield event
    except yaml.YAMLError as error:
        if both := re.search(r"^<{7} ", text, re.MULTILINE):
            place, hint = place_of(text[: both.start()]), "choose what stays, and take the marks out; then git add"
            raise IntegrityError(f"{display(where)}:{place}: it holds both sides of a merge", hint) from None
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        place = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or getattr(error, "context", None) or "unreadable"
        line = "".join(text.split("\n")[mark.line : mark.line + 1])[:500] if mark else ""
        hint = _repair(line, mark.column if mark else 0, str(problem))
        began = getattr(error, "context_mark", None)
        if began and mark and began.line < mark.line and "quoted" in str(getattr(error, "context", "")):
            problem = f"{problem}; the quote in {began.line + 1}:{began.column + 1} is not closed"
        raise IntegrityError(f"{display(where)}{place}: broken YAML: {display(str(problem))}", hint) from None


def _repair(line: str, column: int, problem: str) -> str:
    """What is probably wrong where libyaml gave up, in the words of who wrote the line."""
    if re.search(r"[\[{,][^'\"]*\$\{", line):
        return IN_QUOTES
    if "\t" in line[: column + 1]:
        return "indent with spaces: YAML does not allow tabs"
    if line[column : column + 1] in ("%", "@", "`") or line[column - 1 : column] in ("*", "&"):
        return "a value that begins with % @ ` * or & is put in quotes"
    if "mapping values" in problem:
        if ": " in line[:column]:
            return "put a value with ': ' in it in quotes"
        return "the line before lacks ':' at its end, or this one is indented too deep"
    if "expected ':'" in problem:
        return "a key has ': ' behind it, an item of a list '- ' before it"
    if "expected key" in problem and re.search(r":\s+['\"\[{]", line[:column]):
        return "a value that begins with a quote or a bracket ends with it: put all of it in quotes"
    if "expected key" in problem:
        return "begin it in the same column as the keys around it"
    return HINT


def _refused(kind: type[DvcxError], where: str, mark: Any, what: str, hint: str = HINT) -> DvcxError:
    return kind(f"{display(where)}:{mark.line + 1}:{mark.column + 1}: {what}", hint)


@dataclass(slots=True)
class _Open:
    """A mapping or list being built. `key` waits for its value; `merges` for the end of the mapping."""

    value: Any
    marks: dict[Any, Mark]
    before: int
    anchor: str | None
    key: str | None = None
    key_mark: Any = None
    merges: list[tuple[Any, Any]] = field(default_factory=list)
    merged: bool = False
    height: int = 1


_MERGE = "<<"
LONG = "write the value out; a file of values has no use for so many"


class _Builder:
    """Builds plain data from events without recursion, counting values as if every alias were written out."""

    def __init__(self, where: str) -> None:
        import yaml

        self.value: Any = None
        self.marks: dict[int, dict[Any, Mark]] = {}
        self._where = where
        self._stack: list[_Open] = []
        self._count = 0
        # Anchor -> value, how many values it stands for, how deep it is.
        self._anchors: dict[str, tuple[Any, int, int]] = {}
        self._takers = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._open,
            yaml.SequenceStartEvent: self._open,
            yaml.MappingEndEvent: self._close,
            yaml.SequenceEndEvent: self._close,
            yaml.AliasEvent: self._alias,
        }
        self._mapping = yaml.MappingStartEvent

    def take(self, event: Any) -> None:
        taker = self._takers.get(type(event))
        if taker:
            taker(event)

    def _scalar(self, event: Any) -> None:
        text = event.value
        # Long texts weigh more, or aliases of one would be written out as gigabytes where values are recorded.
        weight = 1 + len(text) // 100
        self._counted(weight, event)
        if event.tag is not None:
            raise self._tag(event)
        plain = not event.style
        top = self._stack[-1] if self._stack else None
        if top is not None and type(top.value) is dict and top.key is None:
            if event.anchor is not None:
                self._anchors[event.anchor] = (text, weight, 0)
            top.key, top.key_mark = text, event.start_mark
            if plain and text == _MERGE:
                self._begin_merge(top, event)
            elif text in top.value:
                first = top.marks[text]
                twice = f"key '{display(text[:80])}' twice (first in line {first[0]})"
                raise self._error(IntegrityError, event, twice, "remove or rename one of the two")
            return
        if plain:
            try:
                text = resolve(text)
            except ValueError:
                raise self._error(IntegrityError, event, "a number too long; put it in quotes if it is text") from None
        if event.anchor is not None:
            self._anchors[event.anchor] = (text, weight, 0)
        self._place(text, event.start_mark)

    def _begin_merge(self, top: _Open, event: Any) -> None:
        if top.merged:
            raise self._error(IntegrityError, event, "key '<<' twice")
        top.merged = True
        top.key_mark = None

    def _open(self, event: Any) -> None:
        self._counted(1, event)
        if event.tag is not None:
            raise self._tag(event)
        top = self._stack[-1] if self._stack else None
        if top is not None and type(top.value) is dict and top.key is None:
            hint = "a value that begins with { or [ is put in quotes; a template is ${name}"
            raise self._error(IntegrityError, event, "a key must be plain text", hint)
        if len(self._stack) >= MAX_DEPTH:
            raise self._error(UnsafeInput, event, f"nested deeper than {MAX_DEPTH} levels")
        value: Any = {} if type(event) is self._mapping else []
        marks: dict[Any, Mark] = {}
        self.marks[id(value)] = marks
        if event.anchor is not None:
            # Known, but not complete: an alias inside it would make a circle.
            self._anchors[event.anchor] = (None, -1, 0)
        self._place(value, event.start_mark)
        self._stack.append(_Open(value, marks, self._count - 1, event.anchor))

    def _close(self, event: Any) -> None:
        done = self._stack.pop()
        for merge, mark in done.merges:
            self._merge(done, merge, mark)
        if done.anchor is not None:
            self._anchors[done.anchor] = (done.value, self._count - done.before, done.height)
        if self._stack:
            self._stack[-1].height = max(self._stack[-1].height, done.height + 1)

    def _alias(self, event: Any) -> None:
        if event.anchor not in self._anchors:
            unknown = f"no anchor '&{display(event.anchor[:80])}' before this alias"
            raise self._error(IntegrityError, event, unknown, "put the value in quotes if '*' is meant as text")
        value, count, height = self._anchors[event.anchor]
        if count < 0:
            raise self._error(UnsafeInput, event, "an alias of what it is in")
        self._counted(count, event)
        top = self._stack[-1] if self._stack else None
        if top is None or (type(top.value) is dict and top.key is None):
            raise self._error(IntegrityError, event, "an alias cannot be a key")
        if len(self._stack) + height > MAX_DEPTH:
            raise self._error(UnsafeInput, event, f"nested deeper than {MAX_DEPTH} levels")
        top.height = max(top.height, height + 1)
        self._place(value, event.start_mark)

    def _place(self, value: Any, mark: Any) -> None:
        """Put a value where it belongs; containers are put there before they are filled."""
        if not self._stack:
            self.value = value
            return
        top = self._stack[-1]
        line, column = mark.line + 1, mark.column + 1
        if type(top.value) is list:
            top.marks[len(top.value)] = (line, column, line, column)
            top.value.append(value)
            return
        key, key_mark, top.key = top.key, top.key_mark, None
        if key_mark is None:
            top.merges.append((value, mark))
            return
        top.marks[key] = (key_mark.line + 1, key_mark.column + 1, line, column)
        top.value[key] = value

    def _merge(self, into: _Open, merge: Any, mark: Any) -> None:
        """What `<<` adds: keys the mapping does not have itself, the first of several mappings first."""
        for source in merge if isinstance(merge, list) else [merge]:
            if not isinstance(source, dict):
                raise _refused(IntegrityError, self._where, mark, "'<<' needs a mapping, or a list of mappings")
            for key, value in source.items():
                if key not in into.value:
                    into.value[key] = value
                    into.marks[key] = self.marks[id(source)][key]

    def _counted(self, count: int, event: Any) -> None:
        self._count += count
        if self._count > MAX_NODES:
            raise self._error(UnsafeInput, event, f"more than {MAX_NODES:,} values with aliases written out", LONG)

    def _tag(self, event: Any) -> DvcxError:
        return self._error(UnsafeInput, event, f"tag '{display(str(event.tag)[:80])}' is not allowed", "remove the tag")

    def _error(self, kind: type[DvcxError], event: Any, what: str, hint: str = HINT) -> DvcxError:
        return _refused(kind, self._where, event.start_mark, what, hint)


def resolve(text: str) -> Any:
    """The value of a plain scalar. Raises `ValueError` for an integer of absurd length."""
    if text[:1] not in "-+.0123456789tTfFnN~":
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if len(text) > MAX_DIGITS:
        if _INT.fullmatch(text) or _BASED.fullmatch(text):
            raise ValueError
        return float(text) if _FLOAT.fullmatch(text) else text
    if _INT.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        return float(text)
    return int(text, 0) if _BASED.fullmatch(text) else text
