from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvcx.core import metrics
from dvcx.core.metrics import Difference, compare, direction_of, directions_of, flatten, text
from dvcx.errors import UsageError

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("values", "flat"),
    [
        ({}, {}),
        ({"a": 1, "b": {"c": {"d": None}}}, {"a": 1, "b.c.d": None}),
        ({"a": [1, 2], "b": [], "c": {}}, {"a": (1, 2), "b": (), "c": "{}"}),
        ({"l": [{"n": 1}, {"n": 2}, 3]}, {"l.0.n": 1, "l.1.n": 2, "l.2": 3}),
        ({"a": {"b": 1}, "a.b": 2}, {"a.b": 1}),
        (0.5, {"": 0.5}),
        ([[1], 2], {"0": (1,), "1": 2}),
    ],
)
def test_flatten(values: Any, flat: dict[str, Any]) -> None:
    assert flatten(values) == flat


@pytest.mark.parametrize(
    ("old", "new", "state", "delta", "direction", "verdict"),
    [
        (1, 3, "modified", 2, "higher", "better"),
        (1, 3, "modified", 2, "lower", "worse"),
        (0.5, 0.25, "modified", -0.25, "lower", "better"),
        (0.5, 0.25, "modified", -0.25, "", ""),
        (1, 1, "unchanged", None, "higher", ""),
        (1, 1.0, "unchanged", None, "higher", ""),
        (1, True, "modified", None, "higher", ""),
        (True, False, "modified", None, "higher", ""),
        ("a", 1, "modified", None, "higher", ""),
        (1.0, NAN, "modified", None, "higher", "worse"),
        (NAN, 1.0, "modified", None, "lower", "better"),
        (NAN, NAN, "unchanged", None, "lower", ""),
        (1.0, INF, "modified", None, "higher", "better"),
        (1.0, INF, "modified", None, "lower", "worse"),
        (10**400, 0.5, "modified", None, "lower", "better"),
        ((1, 2), (1, 3), "modified", None, "higher", ""),
    ],
)
def test_compare(old: Any, new: Any, state: str, delta: Any, direction: str, verdict: str) -> None:
    declared = {"": direction} if direction else {}
    [row] = compare("m.json", {"k": old}, {"k": new}, declared)
    assert (row.state, row.delta, row.verdict) == (state, delta, verdict)


def test_a_parameter_is_of_a_type() -> None:
    assert [compare("p", {"k": 1}, {"k": 1.0}, more)[0].state for more in (None, {})] == ["modified", "unchanged"]


def test_what_came_and_what_went() -> None:
    rows = compare("m", {"gone": 1, "stays": 2}, {"new": None, "stays": 2})
    assert [(row.key, row.state, row.old, row.new) for row in rows] == [
        ("new", "added", None, None),
        ("stays", "unchanged", 2, 2),
        ("gone", "deleted", 1, None),
    ]
    assert compare("m", None, {"a": 1}) == [Difference("m", "a", "added", None, 1, None, "", "")]
    assert compare("m", None, None) == []


def test_directions() -> None:
    assert directions_of({}, "m") == {}
    declared = directions_of({"better": {"loss": "lower", "val": {"acc": "higher"}}}, "m")
    assert declared == {"loss": "lower", "val.acc": "higher"}
    assert direction_of("loss", declared) == "lower"
    assert direction_of("train.loss", declared) == "lower"
    assert direction_of("val.acc", declared) == "higher"
    assert direction_of("val.acc.top5", declared) == "higher"
    assert direction_of("val.f1", declared) == ""
    assert direction_of("test.acc.top5", {"acc": "higher", "top1": "lower"}) == "higher"
    assert direction_of("x", directions_of({"better": "higher"}, "m")) == "higher"
    for wrong in ({"loss": "down"}, "up", 1, {"loss": ["lower"]}):
        with pytest.raises(UsageError, match="m: meta: 'better' must be higher or lower"):
            directions_of({"better": wrong}, "m")


def test_the_last_row_counts() -> None:
    assert metrics.last_row(["epoch", "loss", "note", ""], [["1", ".5"], ["2", "0.25", "", "x"]]) == {"epoch": 2, "loss": 0.25}
    assert metrics.last_row(["a"], []) == {}


@pytest.mark.parametrize(
    ("cell", "value"),
    [("1", 1), (" 2.5 ", 2.5), ("1e3", 1000.0), ("-inf", -INF), ("1_000", "1_000"), ("", ""), ("x", "x"), ("١", "١")],
)
def test_cells(cell: str, value: Any) -> None:
    found = metrics.number(cell)
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("value", "precision", "shown"),
    [
        (0.123456789, 0, "0.123456789"),
        (0.123456789, 3, "0.123"),
        (123456, 3, "123456"),
        (1e-12, 5, "1e-12"),
        (True, 0, "true"),
        (None, 0, "null"),
        (NAN, 3, "nan"),
        (-INF, 0, "-inf"),
        ((1, 0.12345, "a"), 2, "[1, 0.12, a]"),
    ],
)
def test_text(value: Any, precision: int, shown: str) -> None:
    assert text(value, precision) == shown


def test_what_is_odd_compares_exactly() -> None:
    big, tiny = 9007199254740993, 1e-300
    rows = compare("m", {"a.b": big, "t": tiny, "k|": "x", "to": 1}, {"a.b": big + 1, "t": 2 * tiny, "k|": "y", "to": [1]}, {})
    assert [(row.key, row.delta) for row in rows] == [("a.b", 1), ("t", tiny), ("k|", None), ("to", None)]
    assert [text(value, 5) for value in (big, 2**70, tiny, 1.5e300, -0.0)] == [str(big), str(2**70), "1e-300", "1.5e+300", "-0"]
    assert flatten({"a": {"b": 1}, "a.b": 2, "c.d": {"e.f": 3}}) == {"a.b": 1, "c.d.e.f": 3}
    assert metrics.markdown([["k|", "v"], ["数据", "a\nb"]]) == "| k\\|  | v     |\n| ---- | ----- |\n| 数据 | a\\\\nb |\n"


def test_deltas_have_a_sign() -> None:
    assert [metrics.delta_text(delta, 2) for delta in (1, -0.123, 0.0, None)] == ["+1", "-0.12", "0", ""]


def test_json_has_no_nan() -> None:
    assert metrics.plain(NAN) == "NaN"
    assert metrics.plain((1, INF, -INF)) == (1, "Infinity", "-Infinity")
    assert metrics.plain(1.5) == 1.5


def test_markdown_shows_text_as_it_is() -> None:
    assert metrics.markdown([["a|b", "x"], ["<b>", "*"]]) == "| a\\|b   | x   |\n| ------ | --- |\n| &lt;b> | \\*  |\n"


PLAIN = st.none() | st.booleans() | st.floats() | st.text()


@settings(max_examples=40)
@given(st.recursive(PLAIN, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_everything_flattens_and_compares(values: Any) -> None:
    flat = flatten(values)
    assert all(row.state == "unchanged" for row in compare("m", flat, flat))
    assert {row.state for row in compare("m", flat, {})} <= {"deleted"}
