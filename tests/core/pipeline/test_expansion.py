"""Expansion: places of errors behind templates, groups, and files that would become enormous."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcx.core.documents import Document
from dvcx.core.pipeline.graph import build, find
from dvcx.core.pipeline.schema import Pipeline, parse_pipeline
from dvcx.errors import Conflict, DvcxError, NotFound, UnsafeInput, UsageError
from dvcx.io.yaml import load
from tests.work import SECOND, turns


def expand(text: str, file: str = "dvcx.yaml", **values: Any) -> Pipeline:
    return parse_pipeline(load(text.encode(), file), file, {"params.yaml": values}.get)


_A = "stages:\n  a:\n"
_FOREACH = _A + "    foreach: [x]\n    do:\n      cmd: t"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (_FOREACH + "\n      outs: ['${item}/../..']", "dvcx.yaml:6:14: stages.a@x.outs[0]:"),
        (_FOREACH + "\n      frozen: ${item}", "dvcx.yaml:6:15: stages.a@x.frozen must be"),
        (_FOREACH + " ${itme}", "dvcx.yaml:5:12: stage 'a@x': stages.a.do.cmd: 'itme' is not defined"),
        (_A + "    matrix: {m: [x]}\n    cmd: t\n    outs:\n    - '${key}': {cahce: 1}", "dvcx.yaml:6:18: stages.a@x.outs[0].x"),
        (_A + "    cmd: t\n    deps: ['${lr}']", "dvcx.yaml:4:12: stages.a.deps[0] must be a path, not a number"),
        (_A + "    foreach: {x/y: 1, p/q: 2}\n    do: {cmd: t, outs: [o]}", ""),
    ],
)
def test_places_behind_templates(text: str, says: str) -> None:
    if not says:
        assert [stage.name for stage in expand(text).stages] == ["a@x/y", "a@p/q"]
        return
    with pytest.raises(DvcxError) as caught:
        expand(text, lr=1)
    assert caught.value.message.startswith(says)


def test_names_that_are_none() -> None:
    with pytest.raises(UsageError, match="cannot name a stage"):
        expand('stages:\n  a:\n    foreach: ["x\\ny"]\n    do: {cmd: t}')
    with pytest.raises(UsageError, match="cannot name a stage"):
        expand(f"stages:\n  a:\n    foreach: [{'x' * 300}]\n    do: {{cmd: t}}")
    with pytest.raises(Conflict, match="two stages would be named 'a@1'"):
        expand("stages:\n  a:\n    foreach: [1, '1']\n    do: {cmd: t}")


def test_a_group_is_a_target() -> None:
    text = "stages:\n  b: {cmd: x}\n  a:\n    foreach: [x, y]\n    do: {cmd: t, outs: ['o${item}']}"
    root = expand(text.replace("'o${item}'", "'o/${item}'")).stages
    graph = build(root)
    assert [stage.name for stage in find(graph, "a")] == ["a@x", "a@y"]
    assert [stage.name for stage in find(graph, "a@y")] == ["a@y"]
    below = expand(text, "s/dvcx.yaml").stages
    graph = build([*root, *below])
    assert [stage.address for stage in find(graph, "s/dvcx.yaml:a")] == ["s/dvcx.yaml:a@x", "s/dvcx.yaml:a@y"]
    with pytest.raises(UsageError, match="several stages are named 'a'") as caught:
        find(graph, "a")
    assert "a or s/dvcx.yaml:a" in caught.value.hint
    with pytest.raises(NotFound):
        find(graph, "a@z")


_MANY = [str(number) for number in range(9_000)]
_WIDE = {str(number): {"v": number} for number in range(40_000)}
_NINE = "[1, 2, 3, 4, 5, 6, 7, 8, 9]"
_EACH = "stages:\n  a:\n    foreach: ${l}\n    do: {cmd: 'x ${t}'}\n"


@pytest.mark.parametrize(
    ("text", "values", "says"),
    [
        (_EACH, {"l": [str(number) for number in range(30_000)], "t": 1}, "more than 12,000 stages"),
        (_EACH, {"l": _MANY, "t": "x" * 200_000}, "too much comes of the templates"),
        (_EACH, {"l": _MANY, "t": _WIDE}, "too much comes of the templates"),
        (_A + f"    matrix: {{{', '.join(f'{key}: {_NINE}' for key in 'abcdefghij')}}}\n    cmd: x\n", {}, "more than 12,000"),
        ("stages:\n  a:\n    foreach: ${l}\n    do: {vars: [{t: {z: 1}}], cmd: x}\n", {"l": _MANY, "t": _WIDE}, "too much"),
        (f"stages:\n  a:\n    cmd: x {'${t}' * 50_000}\n", {"t": "x" * 900_000}, "longer than 1,048,576"),
        (f"stages:\n  a:\n    cmd: x {'${' * 100_000}\n", {}, "no closing"),
    ],
    ids=["stages", "text", "options", "matrix", "vars", "command", "nested"],
)
def test_a_bomb_ends_soon(text: str, values: Mapping[str, Any], says: str) -> None:
    document = load(text.encode(), "dvcx.yaml")


    def work() -> None:
        with pytest.raises((UnsafeInput, UsageError), match=says):
            parse_pipeline(document, "dvcx.yaml", {"params.yaml": values}.get)

    assert turns(work) < SECOND


_KEYS = ["cmd", "foreach", "do", "matrix", "vars", "outs", "deps", "wdir", "a", "${a}"]
_TEXTS = ["${a}", "x ${b.c} y", "${item}", "${", "params.yaml", "params.yaml:a", "../x"]
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(_TEXTS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(_KEYS), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


@given(_values, _values)
def test_any_document_is_expanded_or_refused(stage: object, more: object) -> None:
    values = {"params.yaml": {"a": "x", "b": {"c": [1]}}}
    try:
        parse_pipeline(Document({"stages": {"s": stage}, "vars": more}, "dvcx.yaml"), "dvcx.yaml", values.get)
    except DvcxError as error:
        assert error.hint
