"""Conditions of when: what holds, and what is said of mistakes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from dvcx.core.pipeline.conditions import files_of, holds, parse_condition
from dvcx.errors import UsageError

PARAMS = {
    "model": {"kind": "forest", "layers": [64, 32]},
    "train": {"lr": 0.1, "epochs": 10, "on": True, "off": False, "none": None},
    "features": ["age", "height"],
    "a-b": 1,
}


def values(file: str) -> Mapping[str, Any]:
    return {"": PARAMS, "other.yaml": {"k": "v"}}[file]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model.kind == 'forest'", True),
        ('model.kind == "tree"', False),
        ("model.kind != 'tree'", True),
        ("train.epochs == 10.0", True),
        ("train.epochs > 9 and train.epochs<=10", True),
        ("train.epochs < 10 or train.lr >= 0.1", True),
        ("train.on", True),
        ("not train.on", False),
        ("not (train.on and train.off)", True),
        ("not train.off and train.on", True),
        ("train.off and train.on or train.on", True),
        ("train.on or train.off and train.off", True),
        ("train.on == true", True),
        ("train.on == 1", False),
        ("train.none == null", True),
        ("model.kind in ['tree', 'forest']", True),
        ("model.kind not in ['tree', 'forest']", False),
        ("'age' in features", True),
        ("'weight' in features", False),
        ("'for' in model.kind", True),
        ("'kind' in model", True),
        ("64 in model.layers", True),
        ("model.layers.0 == 64", True),
        ("model.layers == [64, 32]", True),
        ("[] == []", True),
        ("train.lr in [0.1, 1e-2]", True),
        ("-1 < train.epochs", True),
        ("a-b == 1", True),
        ("other.yaml:k == 'v'", True),
        ("model.kind == 'it\\'s'", False),
        ("true", True),
        ("false", False),
        ("'a' < 'b'", True),
    ],
)
def test_what_holds(text: str, expected: bool) -> None:
    assert holds(parse_condition(text, "f"), values, "f") is expected


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("", "character 1: a parameter or a value is missing", "for example"),
        ("model.kind = 'forest'", "character 12: '=' is not understood", "compare with =="),
        ("train.on && train.off", "'&&' is not understood", "write 'and'"),
        ("model.kind ==", "character 14: a parameter or a value is missing", ""),
        ("(train.on", "')' is missing", ""),
        ("train.on)", "')' is not expected here", ""),
        ("train.on train.off", "character 10: 'train.off' is not expected here", ""),
        ("and train.on", "'and' stands where", ""),
        ("train.epochs not 3", "must be 'not in'", ""),
        ("x in [a]", "a list holds values", "a text is written in quotes: 'a'"),
        ("x in [1 2]", "',' is missing", ""),
        ("model.kind == 'forest", "is not understood", ""),
        ("__import__('os')", "'(' is not expected here", ""),
        ("(" * 60 + "true", "nest more than", ""),
        ("not " * 200 + "true", "nests more than", ""),
        ("x" * 3000, "longer than", ""),
    ],
)
def test_what_is_no_condition(text: str, words: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_condition(text, "dvcx.yaml:3:5")
    assert caught.value.message.startswith("dvcx.yaml:3:5: ")
    assert words in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("text", "words", "hint"),
    [
        ("model.knid == 'forest'", "there is no parameter model.knid", "did you mean 'model.kind'?"),
        ("model.kind == Forest99", "there is no parameter Forest99", "a text is written in quotes: 'Forest99'"),
        ("other.yaml:z == 1", "there is no parameter other.yaml:z", ""),
        ("train.epochs", "train.epochs is neither true nor false: 10", "compare it"),
        ("model.kind < 3", "have no order", "=="),
        ("1 in train.epochs", "nothing can be in 10", "'in' takes"),
        ("train.on or missing", "there is no parameter missing", ""),
    ],
)
def test_what_cannot_be_answered(text: str, words: str, hint: str) -> None:
    with pytest.raises(UsageError) as caught:
        holds(parse_condition(text, "f"), values, "dvcx.yaml:3:5")
    assert caught.value.message.startswith("dvcx.yaml:3:5: ")
    assert words in caught.value.message
    assert hint in caught.value.hint


def test_files_that_are_read() -> None:
    assert files_of(parse_condition("a == 1 and (x.json:b or not a) and c in [1]", "f")) == ("", "x.json")
