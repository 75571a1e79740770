"""Comparing contents: every kind of change, renames, and that equal sub-trees are never read."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcx.core import changes
from dvcx.core.changes import ADDED, DELETED, MODIFIED, RENAMED, Change, Difference
from dvcx.core.objects import Content, Entry, encode_tree, totals
from dvcx.io.hashing import digest

Shape = dict[str, "str | Shape"]
"""A directory as nested dicts; text is a file's."""


class World:
    """Trees by id; `reads` counts how often each path was read."""

    def __init__(self) -> None:
        self.trees: dict[str, list[Entry]] = {}
        self.reads: list[str] = []

    def add(self, shape: Shape) -> Content:
        entries = []
        for name, value in shape.items():
            if isinstance(value, dict):
                below = self.add(value)
                entries.append(Entry(name, "dir", below.size, below.id, below.seal, below.files))
            else:
                kind, _, text = value.rpartition("|")
                names = digest(text.encode(), "xxh128")
                entries.append(Entry(name, kind or "file", len(text), names.id, names.seal))
        names = digest(encode_tree(entries), "xxh128")
        self.trees[names.id] = sorted(entries, key=lambda entry: entry.name.encode())
        return Content("tree", names.id, names.seal, *totals(entries))

    def read(self, path: str, content: Content) -> list[Entry]:
        self.reads.append(path)
        return self.trees[content.id]


def compare(old: Shape | None, new: Shape | None) -> tuple[list[Difference], list[Change]]:
    world = World()
    a, b = (None if shape is None else world.add(shape) for shape in (old, new))
    found = list(changes.differences("d", a, b, world.read, world.read))
    return found, changes.file_changes(found, world.read, world.read)


OLD: Shape = {"a": "1", "b": "2", "sub": {"c": "3", "deep": {"d": "4"}}, "same": {"x": "y"}}


def test_equal_contents_are_not_read() -> None:
    world = World()
    content = world.add(OLD)
    assert list(changes.differences("d", content, content, world.read, world.read)) == []
    assert world.reads == []


def test_equal_sub_trees_are_not_read() -> None:
    world = World()
    a, b = world.add(OLD), world.add({**OLD, "a": "changed"})
    assert [item.path for item in changes.differences("d", a, b, world.read, world.read)] == ["d/a"]
    assert world.reads == ["d", "d"]


CASES: list[tuple[str, Shape, list[Change]]] = [
    ("modified", {**OLD, "a": "11"}, [Change(MODIFIED, "d/a", "", 1, 2)]),
    ("added", {**OLD, "n": "new"}, [Change(ADDED, "d/n", "", -1, 3)]),
    ("deleted", {k: v for k, v in OLD.items() if k != "b"}, [Change(DELETED, "d/b", "", 1, -1)]),
    ("renamed", {"z": "1", **{k: v for k, v in OLD.items() if k != "a"}}, [Change(RENAMED, "d/z", "d/a", 1, 1)]),
    ("copied", {**OLD, "copy": "1"}, [Change(ADDED, "d/copy", "", -1, 1)]),
    ("made executable", {**OLD, "a": "exec|1"}, [Change(MODIFIED, "d/a", "", 1, 1)]),
    (
        "moved directory",
        {"a": "1", "b": "2", "moved": {"c": "3", "deep": {"d": "4"}}, "same": {"x": "y"}},
        [Change(RENAMED, "d/moved/c", "d/sub/c", 1, 1), Change(RENAMED, "d/moved/deep/d", "d/sub/deep/d", 1, 1)],
    ),
    (
        "file became a directory",
        {**OLD, "a": {"in": "new"}},
        [Change(DELETED, "d/a", "", 1, -1), Change(ADDED, "d/a/in", "", -1, 3)],
    ),
    (
        "directory became a file",
        {**OLD, "sub": "file"},
        [
            Change(ADDED, "d/sub", "", -1, 4),
            Change(DELETED, "d/sub/c", "", 1, -1),
            Change(DELETED, "d/sub/deep/d", "", 1, -1),
        ],
    ),
]


@pytest.mark.parametrize(("new", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_changes_of_files(new: Shape, expected: list[Change]) -> None:
    assert compare(OLD, new)[1] == expected


def test_empty_files_are_never_renames() -> None:
    assert [change.state for change in compare({"a": "", "k": "k"}, {"b": "", "k": "k"})[1]] == [DELETED, ADDED]


def test_two_copies_renamed_pair_up_one_to_one() -> None:
    found = compare({"a": "x", "b": "x"}, {"c": "x", "d": "x", "e": "x"})[1]
    assert [(c.state, c.path, c.old_path) for c in found] == [
        (RENAMED, "d/c", "d/a"),
        (RENAMED, "d/d", "d/b"),
        (ADDED, "d/e", ""),
    ]


def test_a_directory_on_one_side_is_one_difference() -> None:
    found, listed = compare({"k": "k"}, {"k": "k", "new": {"a": "1", "b": {"c": "2"}}})
    assert [item.path for item in found] == ["d/new"] and found[0].old is None
    assert [change.path for change in listed] == ["d/new/a", "d/new/b/c"]
    found, listed = compare(None, {"a": "1"})
    assert [item.path for item in found] == ["d"] and [change.path for change in listed] == ["d/a"]


def test_an_empty_directory_differs_without_a_file() -> None:
    found, listed = compare({"a": "1"}, {"a": "1", "empty": {}})
    assert [item.path for item in found] == ["d/empty"] and listed == []


def test_a_single_file() -> None:
    read: Callable[[str, Content], list[Entry]] = lambda path, content: []  # noqa: E731
    plain, run = Content("blob", "i", "s", 3), Content("blob", "i", "s", 3, 1, True)
    (found,) = changes.differences("f", plain, run, read, read)
    assert found.path == "f" and found.old is not None and found.new is not None
    assert (found.old.kind, found.new.kind) == ("file", "exec")
    # The same id with another seal is another content.
    assert len(list(changes.differences("f", plain, Content("blob", "i", "other", 3), read, read))) == 1


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([], ""),
        ([MODIFIED], "1 file changed"),
        ([MODIFIED, MODIFIED, ADDED], "2 files changed, 1 added"),
        ([ADDED, ADDED], "2 files added"),
        ([RENAMED, DELETED], "1 file deleted, 1 renamed"),
    ],
)
def test_in_words(states: list[str], words: str) -> None:
    assert changes.summarise([Change(state, "p") for state in states]) == words


shapes: st.SearchStrategy[Shape] = st.recursive(
    st.dictionaries(st.sampled_from("abcd"), st.sampled_from(["", "1", "2", "exec|1"]), max_size=4),
    lambda below: st.dictionaries(st.sampled_from("abcd"), st.one_of(st.sampled_from(["1", "2"]), below), max_size=4),
    max_leaves=12,
)


def flat(shape: Shape, base: str = "d") -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in shape.items():
        found.update(flat(value, f"{base}/{name}") if isinstance(value, dict) else {f"{base}/{name}": value})
    return found


@given(shapes, shapes)
def test_changes_account_for_every_file(old: Shape, new: Shape) -> None:
    """Applying the changes to the old files gives the new ones."""
    before, after = flat(old), flat(new)
    state = dict(before)
    found = compare(old, new)[1]
    for change in found:
        if change.state == DELETED:
            del state[change.path]
        elif change.state == RENAMED:
            del state[change.old_path]
    for change in found:
        if change.state in (ADDED, MODIFIED, RENAMED):
            assert change.path not in state or change.state == MODIFIED
            state[change.path] = after[change.path]
            if change.state == RENAMED:
                assert before[change.old_path].rpartition("|")[2] == after[change.path].rpartition("|")[2]
    assert state == after
