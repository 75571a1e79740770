"""What stands behind a verdict: the words of a command that changed, the rows of a table, what a fresh stage was compared by."""

from __future__ import annotations

import pytest

from dvcx.core.pipeline.schema import ParamsOf, Stage
from dvcx.core.reasons import compared, line_changes, token_changes
from dvcx.core.records import LockEntry
from dvcx.core.staleness import Snapshot


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("python train.py --lr 0.1", "python train.py --lr 0.2", ["'0.1' → '0.2'"]),
        ("python train.py", "python train.py --fast", ["'--fast' is new"]),
        ("python train.py --fast", "python  train.py", ["'--fast' is gone"]),
        ("echo 'a b' c", "echo 'a  b' c", ["''a b'' → ''a  b''"]),
        (("a", "b"), ("a", "c", "b"), ["'c &&' is new"]),
        ("a", ("a", "b"), ["'&& b' is new"]),
        ("it's", "its", ["'it's' → 'its'"]),
        ("same", "same", []),
    ],
)
def test_words_of_a_command(old: str | tuple[str, ...], new: str | tuple[str, ...], told: list[str]) -> None:
    assert [reason.text for reason in token_changes(old, new)] == told


def test_endless_commands_are_not_compared() -> None:
    assert token_changes("a " * 3_000, "b " * 3_000) == ()


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("h\n1\n", "h\n1\n2\n", "1 row added"),
        ("h\n1\n2\n", "h\n1\n", "1 row removed"),
        ("h\n1\n2\n3\n", "h\n7\n2\n8\n9\n", "2 rows changed, 1 added"),
        ("h\n1\n2\n", "h\n2\n1\n", "its rows in another order"),
        ("h\n1\n", "h\r\n1\r\n", "only its line ends"),
        ("h\n1\n", "g\n1\n", "its first row changed"),
        ("h\n1\n", "g\n2\n", "its first row and others changed"),
        ("h\n", "h\n", ""),
        ("h\n", "h\0\n", ""),
    ],
)
def test_rows_of_a_table(old: str, new: str, told: str) -> None:
    assert line_changes(old.encode(), new.encode(), "row") == told


def test_lines_of_a_text() -> None:
    assert line_changes(b"a\nb\n", b"x\nb\n", "line") == "1 line changed"
    assert line_changes(b"\xff\n", b"b\n", "line") == ""


def test_what_a_fresh_stage_was_compared_by() -> None:
    from tests.core.test_staleness import LOCKED, NOW, STAGE

    told = [reason.text for reason in compared(STAGE, LOCKED, NOW)]
    assert told[0] == "command: as in its last run"
    assert told[1] == "data.csv: as it was read (1 B)"
    assert "params.yaml: train.lr is 0.1 still" in told
    assert told[-1] == "scores.json: as it was written (1 B)"
    frozen = Stage("s", "dvcx.yaml", "c", frozen=True)
    assert [reason.kind for reason in compared(frozen, LockEntry("c", {}, {}, {}), Snapshot({}))] == ["frozen"]
    bare = Stage("s", "dvcx.yaml", "c", params=(ParamsOf("p.yaml", ("a",)),))
    found = compared(bare, LockEntry("c", {}, {"p.yaml": {"a": None}}, {}), Snapshot({}, {"p.yaml": {"a": None}}))
    assert [reason.text for reason in found] == ["command: as in its last run", "p.yaml: a is null still"]
