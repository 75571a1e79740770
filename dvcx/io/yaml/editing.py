"""Editing a dvcx.yaml: one stage is written or removed, every other line stays as it is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from dvcx.errors import DvcxError, UsageError, display
from dvcx.io.yaml.reading import Source, decode, events, load
from dvcx.io.yaml.writing import block, flow


def set_stage(data: bytes, name: str, record: Mapping[str, Any], where: str) -> bytes:
    """The bytes of the dvcx.yaml `where` with the stage `name` added, or replaced, by `record` (plain data).

    Every other line stays as it is: comments, order, quotes, line ends. Raises what `load` raises, and `UsageError`
    when the file is laid out in a way that cannot be kept (say, the stage is an anchor that others use).
    """
    old = load(data, where)
    source = _editable(data, where)
    wanted = _plain_copy(old.value) if old.value is not None else {}
    if not isinstance(wanted, dict) or not isinstance(wanted.get("stages") or {}, dict):
        raise UsageError(f"{where}: 'stages' must be a mapping", "repair the file first")
    wanted["stages"] = {**(wanted.get("stages") or {}), name: _plain_copy(record)}
    outline = _outline(source.text, where)
    return _checked(source, _with_stage(source.text, outline, name, record), wanted, name, where)


def remove_stage(data: bytes, name: str, where: str) -> bytes:
    """The bytes of the dvcx.yaml `where` without the stage `name`; the rest as `set_stage` keeps it."""
    old = load(data, where)
    source = _editable(data, where)
    wanted = _plain_copy(old.value)
    if not isinstance(wanted, dict) or not isinstance(wanted.get("stages"), dict) or name not in wanted["stages"]:
        raise UsageError(f"{where}: it has no stage '{display(name)}'", "dvcx stage list shows the stages")
    del wanted["stages"][name]
    return _checked(source, _without_stage(source.text, _outline(source.text, where), name), wanted, name, where)


def _editable(data: bytes, where: str) -> Source:
    source = decode(data, where)
    if source.mixed:
        raise UsageError(f"{where}: some lines end with CR LF and some with LF", "make them the same, then run it again")
    return source


@dataclass(slots=True)
class _Span:
    """A key with its value in the text: where the key starts, where the last thing of the value ends."""

    start: int
    column: int
    end: int = 0


@dataclass(slots=True)
class _Outline:
    """Where things stand in a dvcx.yaml. Offsets into its text; -1 and empty where there is nothing.

    `root` and `stages` are block, flow, null or other.
    """

    root: str = "null"
    root_start: int = -1
    root_end: int = 0
    stages: str = ""
    key_end: int = -1
    stages_start: int = -1
    stages_end: int = -1
    spans: dict[str, _Span] = field(default_factory=dict)
    step: int = 2
    dash: int = 0


def _outline(text: str, where: str) -> _Outline:
    import yaml

    found = _Outline()
    # The kind of each open container, whether its next scalar is a key, and its column.
    stack: list[list[Any]] = []
    path: list[str] = []
    end = 0
    for event in events(text, where):
        first, last = event.start_mark, event.end_mark
        if isinstance(event, yaml.MappingEndEvent | yaml.SequenceEndEvent):
            if last.index > first.index:
                end = last.index
            stack.pop()
            _mark_end(found, path, len(stack), end)
            continue
        if not isinstance(event, yaml.NodeEvent):
            continue
        start = first.index
        depth = len(stack)
        collection = isinstance(event, yaml.CollectionStartEvent)
        if not collection:
            end = max(end, _content_end(text, start, last.index))
        if depth and stack[-1][0] == "map" and stack[-1][1]:
            stack[-1][1] = False
            path[depth - 1 :] = [str(getattr(event, "value", ""))]
            if depth == 1 and path == ["stages"]:
                found.key_end = last.index
            if depth == 2 and path[0] == "stages":
                found.spans[path[1]] = _Span(start, first.column)
            stack[-1][2] = first.column
            continue
        if depth and stack[-1][0] == "map":
            stack[-1][1] = True
        kind = "other"
        if isinstance(event, yaml.MappingStartEvent):
            kind = "flow" if event.flow_style else "block"
        elif isinstance(event, yaml.ScalarEvent) and not event.style and event.value in ("", "~", "null", "Null", "NULL"):
            kind = "null"
        if depth == 0:
            found.root, found.root_start = kind, start
        elif depth == 1 and path == ["stages"]:
            found.stages, found.stages_start = kind, start
        if isinstance(event, yaml.SequenceStartEvent) and not event.flow_style and depth == 3 and path[0] == "stages":
            found.dash = first.column - stack[-1][2]
        if collection:
            stack.append(["map" if isinstance(event, yaml.MappingStartEvent) else "list", True, 0])
        else:
            _mark_end(found, path, depth, end)
    found.root_end = end
    columns = [span.column for span in found.spans.values()]
    found.step = columns[0] if columns and columns[0] else 2
    return found


def _content_end(text: str, start: int, end: int) -> int:
    """Where a scalar ends, without the empty lines a block scalar takes along, unless it keeps them (`|+`)."""
    if end and text[end - 1 : end] == "\n" and "+" not in text[start : text.find("\n", start)]:
        content = len(text[:end].rstrip(" \n"))
        return min(end, text.find("\n", content) + 1)
    return end


def _mark_end(found: _Outline, path: list[str], depth: int, end: int) -> None:
    """A value directly in the container of `depth` is complete."""
    if depth == 1 and path[:1] == ["stages"]:
        found.stages_end = end
    elif depth == 2 and path[:1] == ["stages"] and len(path) > 1 and path[1] in found.spans:
        found.spans[path[1]].end = end


def _with_stage(text: str, outline: _Outline, name: str, record: Mapping[str, Any]) -> str:
    if outline.root == "null" or (outline.root == "flow" and not text[outline.root_start + 1 : outline.root_end - 1].strip()):
        if outline.root_end > outline.root_start >= 0:
            before, behind = text[: outline.root_start], text[outline.root_end :]
            text = before + (behind if before and not before.endswith("\n") else behind.lstrip("\n"))
        return _ended(text) + "stages:\n" + _block(name, record, 2, outline)
    if outline.root == "flow" and not outline.stages:
        at = outline.root_start + 1
        return f"{text[:at]}stages: {flow({name: record})}, {text[at:]}"
    if outline.root == "block" and not outline.stages:
        at = _line_end(text, outline.root_end)
        return _ended(text[:at]) + "\nstages:\n" + _block(name, record, 2, outline) + text[at:]
    if outline.stages == "flow" and outline.spans:
        if name in outline.spans:
            span = outline.spans[name]
            return text[: span.start] + flow({name: record})[1:-1] + text[span.end :]
        at = outline.stages_start + 1
        return f"{text[:at]}{flow({name: record})[1:-1]}, {text[at:]}"
    if outline.root == "flow":
        return text[: outline.stages_start].rstrip(" ") + " " + flow({name: record}) + text[outline.stages_end :]
    if outline.stages in ("flow", "null"):
        text = text[: outline.stages_start].rstrip(" ") + text[outline.stages_end :]
        at = _line_end(text, outline.key_end)
        return _ended(text[:at]) + _block(name, record, 2, outline) + text[at:]
    if outline.stages != "block":
        return text
    if name in outline.spans:
        span = outline.spans[name]
        at = span.start - span.column
        after = _line_end(text, span.end)
        return text[:at] + _block(name, record, span.column, outline) + text[after:]
    at = _after_comments(text, _line_end(text, outline.stages_end), outline.step)
    gap = "\n" if _spaced(text, outline) else ""
    return _ended(text[:at]) + gap + _block(name, record, outline.step, outline) + text[at:]


def _block(name: str, record: Mapping[str, Any], column: int, outline: _Outline) -> str:
    return block({name: record}, column, step=outline.step, dash=outline.dash)


def _without_stage(text: str, outline: _Outline, name: str) -> str:
    span = outline.spans.get(name)
    if span is None or outline.stages not in ("block", "flow"):
        return text
    if len(outline.spans) == 1:
        start = outline.stages_start
        if outline.stages == "flow":
            return text[:start] + "{}" + text[outline.stages_end :]
        at = text.index(":", outline.key_end) + 1
        after = _after_comments(text, _line_end(text, span.end), span.column + 1)
        return text[:at] + " {}" + text[at : span.start - span.column] + text[after:]
    if outline.stages == "flow":
        comma = re.compile(r"\s*,[ \t]*").match(text, span.end)
        return text[: span.start] + text[comma.end() if comma else span.end :]
    before = text[: span.start - span.column]
    after = _after_comments(text, _line_end(text, span.end), span.column + 1)
    # The empty line that set the stage apart goes with it.
    if before.endswith("\n\n") or name == next(iter(outline.spans)):
        after += len(text[after:]) - len(text[after:].lstrip("\n"))
    return before + text[after:]


def _checked(source: Source, text: str, wanted: Any, name: str, where: str) -> bytes:
    """The edited text as bytes, once it is proven to say what it should."""
    data = source.encode(text)
    try:
        same = _key(load(data, where).value) == _key(wanted)
    except DvcxError:
        same = False
    if not same:
        raise UsageError(
            f"{where}: the stage '{display(name)}' cannot be edited without changing the rest of the file",
            "edit the file by hand: the stage uses anchors, or is laid out in a rare way",
        )
    return data


def _key(value: Any) -> Any:
    """A form in which two values are equal when a reader cannot tell them apart, whatever the order of their keys."""
    if isinstance(value, Mapping):
        return {key: _key(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_key(inner) for inner in value]
    return value.rstrip("\n") if isinstance(value, str) else (type(value).__name__, repr(value))


def _plain_copy(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain_copy(inner) for key, inner in value.items()}
    return [_plain_copy(inner) for inner in value] if isinstance(value, list | tuple) else value


def _line_end(text: str, at: int) -> int:
    """The start of the line after the one that `at` ends (a block scalar ends where the next line starts)."""
    if at and text[at - 1] == "\n":
        return at
    return text.find("\n", at) + 1 or len(text)


def _ended(text: str) -> str:
    return text if not text or text.endswith("\n") else text + "\n"


def _after_comments(text: str, at: int, column: int) -> int:
    """Behind the comments that follow `at` and are indented like a stage or deeper."""
    end = at
    while at < len(text):
        line = text[at : _line_end(text, at + 1)]
        bare = line.strip()
        if bare and not (bare.startswith("#") and len(line) - len(line.lstrip(" ")) >= column):
            break
        at += len(line)
        if bare:
            end = at
    return end


def _spaced(text: str, outline: _Outline) -> bool:
    """Whether the stages stand apart by an empty line."""
    for span in list(outline.spans.values())[1:2]:
        for line in reversed(text[: span.start - span.column].split("\n")[:-1]):
            if not line.lstrip().startswith("#"):
                return not line.strip()
    return False
