"""Parameters: which value a key names, what is the same, what differs."""

from __future__ import annotations

import math

import pytest

from dvcx.core.pipeline.params import MISSING, differences, pick, same, select

VALUES = {"lr": 0.1, "train": {"lr": 0.2, "layers": [{"size": 8}, 16], "none": None}, "a.b": {"c": 1}, "a": {"b": {"d": 2}}}


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("lr", 0.1), ("train.lr", 0.2), ("train.layers.0.size", 8), ("train.layers.1", 16), ("train.none", None), ("a.b.c", 1),
        ("a.b.d", 2), ("a.b", {"c": 1}), ("x", MISSING), ("train.x", MISSING), ("train.layers.2", MISSING), ("lr.x", MISSING),
        ("train.layers.-1", MISSING), ("train.layers.x", MISSING), ("train.layers.", MISSING), ("", MISSING), (".", MISSING),
        ("train.layers." + "9" * 5000, MISSING),
    ],
)  # fmt: skip
def test_pick(key: str, expected: object) -> None:
    assert pick(VALUES, key) == expected


def test_select() -> None:
    assert select(VALUES, ("lr", "train.lr", "gone")) == {"lr": 0.1, "train.lr": 0.2}
    assert select(VALUES, ()) == VALUES


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        (1, 1, True), (1, 1.0, False), (1, True, False), (0, None, False), ("1", 1, False), (math.nan, math.nan, True),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True), ([1, 2], (1, 2), True), ([1, 2], [2, 1], False), (None, MISSING, False),
        (MISSING, MISSING, True), ("é", "é", True), ("a", "b", False), (0.1, 1e-1, True),
    ],
)  # fmt: skip
def test_same(a: object, b: object, expected: bool) -> None:
    assert same(a, b) is expected
    assert same(b, a) is expected


def test_differences_go_to_the_leaves() -> None:
    old = {"a": {"x": 1, "y": [1]}, "gone": 1, "kept": {"k": None}}
    new = {"a": {"x": 2, "y": [2]}, "kept": {"k": None}, "more": {"z": 1}}
    assert list(differences(old, new)) == [
        ("a.x", 1, 2),
        ("a.y", [1], [2]),
        ("more", MISSING, {"z": 1}),
        ("gone", 1, MISSING),
    ]
    assert list(differences(1, {"a": 1}, "k")) == [("k", 1, {"a": 1})]
    assert list(differences(old, old)) == []
