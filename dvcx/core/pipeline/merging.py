"""The values a dvcx.yaml's templates may name: params.yaml, then what `vars` lists, and what may not meet."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dvcx.core.documents import Document
from dvcx.core.paths import resolve
from dvcx.core.pipeline.checking import Place, expect, field, refused
from dvcx.core.pipeline.templating import Origin, Scope, below, templated
from dvcx.core.spelling import did_you_mean
from dvcx.errors import display

# The values in a file of parameters, by its path in the project; None when there is none.
Read = Callable[[str], Mapping[str, Any] | None]
# Told how many values were looked at or copied; it may raise, so that a small file cannot keep dvcx busy for long.
Carry = Callable[[int], None]


def with_default(scope: Scope, file: str, read: Read) -> Scope:
    """The scope with what `file` holds, if it is there."""
    values = read(file)
    if values is None:
        return scope
    return Scope(values, _traces(values, file), {**scope.loaded, file: None}, scope.reserved)


def with_vars(
    document: Document, at: Place, items: object, scope: Scope, base: str, read: Read, carry: Carry, *, name: str = "vars"
) -> Scope:
    """The scope with the items of a `vars` list at `at`: files, as seen from `base`, `file:key,key`, or mappings.

    Mappings are joined; any other value may be said only once. Raises `UsageError` with the place.
    """
    if items is None:
        return scope
    expect(document, at, items, list)
    assert isinstance(items, list)
    for number, item in enumerate(items):
        place = (*at, number)
        _plain(document, place, item, carry)
        if isinstance(item, str):
            scope = _with_file(document, place, item, scope, base, read, carry)
        else:
            expect(document, place, item, dict)
            origins = {key: Origin(f"{name}[{number}]", key) for key in item}
            scope = _joined(document, place, scope, item, origins, carry)
    return scope


def _with_file(
    document: Document, at: Place, item: str, scope: Scope, base: str, read: Read, carry: Carry
) -> Scope:
    path, _, chosen = item.partition(":")
    file = resolve(base, path, f"{document.where(*at, value=True)}: {field(at)}") if path else ""
    if not file:
        raise refused(document, at, f": '{display(item[:200])}' names no file", "for example: - params/train.yaml:lr,epochs")
    keys = tuple(key for key in chosen.split(",") if key)
    if file in scope.loaded:
        before = scope.loaded[file]
        if not keys and before is None:
            return scope
        problem = _read_before(keys, before)
        if problem:
            raise refused(document, at, f": '{display(file)}' {problem}", "name a file once, with all the keys that are needed")
    values = read(file)
    if values is None:
        raise refused(document, at, f": '{display(file)}' does not exist", "write it, or remove it from vars")
    for key in keys:
        if key not in values:
            hint = did_you_mean(key, values) or "it has: " + display(", ".join(values)[:200])
            raise refused(document, at, f": '{display(file)}' has no '{display(key[:80])}'", hint)
    if keys:
        values = {key: values[key] for key in keys}
    loaded = {**scope.loaded, file: (*(scope.loaded.get(file) or ()), *keys) or None}
    return _joined(document, at, scope, values, _traces(values, file), carry)._replace(loaded=loaded)


def _read_before(keys: tuple[str, ...], before: tuple[str, ...] | None) -> str:
    if before is None:
        return "was read already, all of it"
    both = [key for key in keys if key in before]
    if not keys or both:
        return f"was read already: {', '.join(display(key) for key in both or before)}"
    return ""


def _joined(
    document: Document, at: Place, scope: Scope, values: Mapping[str, Any], traces: Mapping[str, Any], carry: Carry
) -> Scope:
    for key in values:
        if key in scope.reserved:
            raise refused(document, at, f" sets '{key}', which is the item here", "give it another name")
    joined, origins = _join(document, at, scope.values, scope.origins, values, traces, carry)
    return scope._replace(values=joined, origins=origins)


def _join(
    document: Document,
    at: Place,
    values: Mapping[str, Any],
    traces: Any,
    more: Mapping[str, Any],
    more_traces: Any,
    carry: Carry,
) -> tuple[dict[str, Any], dict[str, Any]]:
    carry(len(values) + len(more))
    joined = dict(values)
    origins = {key: below(traces, key) for key in values}
    for key, value in more.items():
        trace = below(more_traces, key)
        if key in joined and isinstance(joined[key], dict) and isinstance(value, dict):
            joined[key], origins[key] = _join(document, at, joined[key], origins[key], value, trace, carry)
        elif key in joined:
            new, old = _origin(trace), _origin(origins[key])
            raise refused(
                document,
                at,
                f" redefines '{display((new.path or key)[:80])}', which {display(old.source or 'another file')} sets already",
                "a value is set once: rename one of the two, or take only what is needed: - FILE:key,key",
            )
        else:
            joined[key], origins[key] = value, trace
    return joined, origins


def _origin(trace: Any) -> Origin:
    """The first origin in a trace."""
    while not isinstance(trace, Origin):
        inner = list(trace.values()) if isinstance(trace, dict) else trace
        if not inner:
            return Origin()
        trace = inner[0]
    return trace


def _traces(values: Mapping[str, Any], file: str) -> dict[str, Origin]:
    return {key: Origin(file, key, True) for key in values}


def _plain(document: Document, at: Place, item: Any, carry: Carry) -> None:
    """There are no templates in vars: they are what templates are filled with."""
    todo: list[tuple[Place, Any]] = [(at, item)]
    while todo:
        place, value = todo.pop()
        carry(1)
        inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        todo += [((*place, key), child) for key, child in inner]
        texts = [value, *(value if isinstance(value, dict) else ())]
        if any(isinstance(text, str) and templated(text.replace("\\${", "")) for text in texts):
            raise refused(document, place, ": templates are not allowed in vars", "write the value itself")
