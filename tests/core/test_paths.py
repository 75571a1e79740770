"""The path rule: hostile names, and an oracle that asks the real file system."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dvcx.core import paths
from dvcx.core.paths import several
from dvcx.errors import DvcxError, UnsafeInput

HOSTILE = [
    "",
    ".",
    "..",
    "../x",
    "a/../../x",
    "a/..",
    "/abs",
    "//abs",
    "a//b",
    "a/",
    "a/./b",
    "./a",
    "C:/windows",
    "c:x",
    ".git",
    ".git/hooks/post-checkout",
    ".GIT/config",
    "a/.Git/x",
    "git~1/x",
    "GIT~2",
    "dvcx~1/x",
    ".dvcx/config",
    ".DVCX/config.toml",
    ".git./x",
    ".git /x",
    ".git . ./x",
    ".git::$INDEX_ALLOCATION/x",
    ".g\u200cit/config",
    "\ufeff.git/config",
    "\uff0egit/config",
    ".d\u200dvcx/x",
    "a\0b",
    "a\r",
    "caf\udce9",
    "half\ud800",
    "x" * 256,
    "é" * 128,
    "/".join(["d"] * 256),
    "/".join(["d"] * 5000),
    "/".join(["d" * 200] * 30),
    "tmp-dvcx-0123",
    "a/tmp-dvcx-0123",
]
ODD_BUT_FINE = [
    "a",
    "data/x.csv",
    "-rf",
    "new\nline",
    "tab\there",
    "\x1b[31mred",
    "[bold]x[/bold]",
    "back\\slash",
    "emoji 🎉",
    ".gitignore",
    ".gitattributes",
    ".git2",
    "git",
    ".dvcxignore",
    "dvcx",
    "...",
    "a..b",
    "..a",
    "x" * 255,
    "é" * 127,
    "/".join(["d"] * 255),
    " lead",
    "e\u0301",
]


@pytest.mark.parametrize("path", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_paths_are_refused(path: str) -> None:
    with pytest.raises(UnsafeInput) as caught:
        paths.check_path(path, "x.dvcx: path")
    assert caught.value.exit_code == 9
    assert "x.dvcx: path" in caught.value.message
    assert caught.value.message.isprintable() and caught.value.hint


@pytest.mark.parametrize("path", ODD_BUT_FINE, ids=range(len(ODD_BUT_FINE)))
def test_odd_paths_come_back_unchanged(path: str) -> None:
    assert paths.check_path(path, "here") == path
    if "/" not in path:
        assert paths.check_name(path, "here") == path


@pytest.mark.parametrize("path", [None, 1, 1.5, True, [], ["a"], {"a": 1}, b"a"])
def test_what_is_no_text_is_refused(path: object) -> None:
    with pytest.raises(UnsafeInput, match="must be text"):
        paths.check_path(path, "here")


@pytest.mark.parametrize("name", ["a/b", *[path for path in HOSTILE if "/" not in path and path != "c:x"]])
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(UnsafeInput):
        paths.check_name(name, "tree")


pieces = st.sampled_from(["..", ".", "", "a", "b", ".git", ".dvcx", ".GIT", "git~1", "é", "\n", "x" * 255, "/", "a\\b", " "])
candidates = st.lists(st.one_of(pieces, st.text(max_size=6)), max_size=6).map("/".join)


@given(candidates)
@example("a/../../b")
@example("\udcff")
def test_what_the_rule_accepts_stays_inside(path: str) -> None:
    """The oracle: an accepted path, made on the real disk, lies in the project, outside .git and .dvcx, under its own name."""
    if paths.path_problem(path):
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = os.path.realpath(scratch)
        full = os.path.join(root, path)
        real = os.path.realpath(full)
        assert real == full and real.startswith(root + "/")
        assert not {".git", ".dvcx"} & set(os.path.relpath(real, root).lower().split("/"))
        Path(full).parent.mkdir(parents=True, exist_ok=True)
        Path(full).write_bytes(b"x")
        assert os.path.relpath(real, root) == path


@given(st.one_of(candidates, st.text()))
def test_any_text_is_accepted_or_refused_with_our_error(path: str) -> None:
    for check in (paths.check_path, paths.check_name):
        try:
            assert check(path, "here") == path
        except DvcxError as error:
            assert error.exit_code == 9 and error.message.isprintable()


@given(candidates, candidates)
def test_resolve_agrees_with_normpath(base: str, path: str) -> None:
    if base and paths.path_problem(base):
        return
    try:
        found = paths.resolve(base, path, "wdir")
    except UnsafeInput:
        return
    expected = os.path.normpath(os.path.join("/root", base, path))
    assert os.path.join("/root", found).rstrip("/") == expected


@pytest.mark.parametrize(
    ("base", "path", "expected"),
    [
        ("", "a", "a"),
        ("sub", "../a", "a"),
        ("sub", ".", "sub"),
        ("sub", "..", ""),
        ("a/b", "../c/./d", "a/c/d"),
        ("", "a/", "a"),
        ("a", "x//y", "a/x/y"),
    ],
)
def test_resolve(base: str, path: str, expected: str) -> None:
    assert paths.resolve(base, path, "deps") == expected


LEAVING = [("", ".."), ("a", "../../x"), ("a", "/x"), ("", ".git/x"), ("a", "../.dvcx/x"), ("", "")]


@pytest.mark.parametrize(("base", "path"), LEAVING)
def test_resolve_refuses_what_leaves(base: str, path: str) -> None:
    with pytest.raises(UnsafeInput, match="wdir"):
        paths.resolve(base, path, "wdir")


safe = st.lists(st.text("abc.", min_size=1, max_size=3).filter(lambda part: part.strip(".")), max_size=5).map("/".join)


@given(safe, safe)
def test_relative_and_resolve_are_inverse(path: str, base: str) -> None:
    assert paths.resolve(base, paths.relative(path, base), "x") == path


def test_small_ones() -> None:
    assert paths.join("", "a") == "a" and paths.join("d", "a") == "d/a"
    assert paths.parent("a/b/c") == "a/b" and paths.parent("a") == ""
    assert paths.contains("", "a") and paths.contains("a", "a") and paths.contains("a", "a/b")
    assert not paths.contains("a", "ab") and not paths.contains("a/b", "a")
    assert paths.relative("a", "a") == "." and paths.relative("", "a/b") == "../.."


@pytest.mark.parametrize(("one", "other"), [("A", "a"), ("\u00e9", "e\u0301"), ("STRASSE", "straße"), ("É", "e\u0301")])
def test_twins_fold_to_one_key(one: str, other: str) -> None:
    assert paths.fold(one) == paths.fold(other)
    assert paths.twins(["x", one, "y", other]) == (one, other)
    assert paths.twins([one, "x", one]) is None


def test_several_paths_may_be_one_and_of_pathlib() -> None:
    assert several("a/b") == several(PurePosixPath("a/b")) == several(["a/b"]) == ("a/b",)  # type: ignore[arg-type]
    assert several([PurePosixPath("a"), "b"]) == ("a", "b")  # type: ignore[list-item]
