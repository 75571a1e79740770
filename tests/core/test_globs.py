"""Wildcards: what they name, and which directories lead to it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcx.core.globs import Globs
from dvcx.errors import UsageError


@pytest.mark.parametrize(
    ("pattern", "named", "not_named"),
    [
        ("data/*.png", ["data/a.png", "data/.png"], ["data/a.jpg", "data/x/a.png", "data", "a.png"]),
        ("data/**/*.png", ["data/a.png", "data/x/a.png", "data/x/y/a.png"], ["data/a.txt", "other/a.png", "data"]),
        ("**/cats", ["cats", "a/cats", "a/b/cats", "a/cats/1.png"], ["a/dogs", "cat"]),
        ("data/**", ["data", "data/a", "data/a/b"], ["other"]),
        ("data/[ab]?", ["data/a1", "data/b2/below"], ["data/c1", "data/a", "data/a12"]),
        ("*", ["anything", "any/thing"], []),
        ("a/**/b/**/c", ["a/b/c", "a/x/b/y/z/c", "a/b/b/c"], ["a/c", "a/b", "b/c"]),
        ("plain/path", ["plain/path", "plain/path/below"], ["plain", "plain/paths"]),
        ("a.b", ["a.b"], ["axb"]),
    ],
)
def test_what_is_named(pattern: str, named: list[str], not_named: list[str]) -> None:
    globs = Globs([pattern])
    assert [path for path in named if not globs.names(path)] == []
    assert [path for path in not_named if globs.names(path)] == []


def test_only_directories_that_can_match_lead() -> None:
    globs = Globs(["data/*/cats/*.png"])
    assert globs.leads("data") and globs.leads("data/x") and globs.leads("data/x/cats")
    assert not globs.leads("other") and not globs.leads("data/x/dogs")
    assert Globs(["data/**/*.png"]).leads("data/any/where") and not Globs(["*.png"]).leads("data")


def test_several_patterns() -> None:
    globs = Globs(["a/*.png", "b/**"])
    assert globs.names("a/x.png") and globs.names("b/c/d") and not globs.names("a/x.txt")
    assert str(globs) == "a/*.png, b/**"


@pytest.mark.parametrize("pattern", ["", "/abs", "a//b", "../a", "a/./b", "a/"])
def test_what_is_no_pattern(pattern: str) -> None:
    with pytest.raises(UsageError, match="pattern"):
        Globs([pattern])


names = st.text("ab", min_size=1, max_size=2)
paths = st.lists(names, min_size=1, max_size=4).map("/".join)
patterns = st.lists(st.sampled_from(["**", "*", "a", "b", "a*", "?b"]), min_size=1, max_size=4).map("/".join)


@given(patterns, paths)
def test_what_is_named_is_led_to(pattern: str, path: str) -> None:
    globs = Globs([pattern])
    if globs.names(path):
        parts = path.split("/")
        above = ["/".join(parts[:count]) for count in range(1, len(parts))]
        assert all(globs.leads(part) or globs.names(part) for part in above)
