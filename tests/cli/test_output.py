"""How results look."""

from __future__ import annotations

import json
from dataclasses import dataclass

import pytest

from dvcx.cli import output


@dataclass(frozen=True, slots=True)
class _Item:
    path: str
    size: int


@dataclass(frozen=True, slots=True)
class _Result:
    items: tuple[_Item, ...]
    clean: bool
    note: str = ""


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1024 * 1024 - 1, "1.0 MiB"),
        (34 * 1024**2, "34.0 MiB"),
        (340 * 1024**2, "340 MiB"),
        (5 * 1024**6, "5120 PiB"),
    ],
)
def test_size(count: int, text: str) -> None:
    assert output.size(count) == text


def test_delta_plural_seconds() -> None:
    assert (output.delta(-5), output.delta(0), output.delta(2048)) == ("-5 B", "the same size", "+2.0 KiB")
    assert (output.plural(1, "file"), output.plural(2000, "file")) == ("1 file", "2,000 files")
    assert [output.seconds(s) for s in (0.04, 75, 200, 7500)] == ["0.0 s", "75 s", "3 min 20 s", "2 h 5 min"]


def test_json_is_the_result() -> None:
    assert json.loads(output.to_json(_Result((_Item("a\udcff", 3),), True))) == {
        "items": [{"path": "a\udcff", "size": 3}],
        "clean": True,
        "note": "",
    }


def test_columns_are_aligned_and_safe() -> None:
    assert output.columns([("a", "x\x1b[1m"), ("long", "y")], "  ") == ["  a     x\\x1b[1m", "  long  y"]
    assert output.columns([]) == []


def test_outline() -> None:
    assert output.outline(_Result((_Item("a", 3),), True)) == ["items:", "  a  3", "clean: yes"]


def test_paint() -> None:
    assert output.Paint(False)("x", "red") == "x"
    assert output.Paint(True)("x", "red") == "\x1b[31mx\x1b[0m"
    assert output.Paint(True).state("stale", 7) == "\x1b[33mstale  \x1b[0m"
    assert output.Paint(True).state("unknown") == "unknown"
