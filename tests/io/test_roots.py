"""The projects that share a cache: registered once, told when they are gone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dvcx.errors import IntegrityError, NotFound, UnsafeInput
from dvcx.io.roots import record_name, register, registered


def project(path: Path) -> str:
    (path / ".dvcx").mkdir(parents=True)
    (path / ".dvcx/config.toml").write_text("")
    return str(path)


def test_registered_once(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    assert registered(str(cache)) == []
    first, second = project(tmp_path / "a"), project(tmp_path / "b é")
    for root in (first, second, first):
        register(str(cache), root, shared=False)
    assert sorted(root.path for root in registered(str(cache))) == sorted([first, second])
    assert len(os.listdir(cache / "roots")) == 2
    assert all(len(name) == 21 for name in os.listdir(cache / "roots"))


def test_that_it_was_in_git_is_never_forgotten(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    root = project(tmp_path / "a")
    for now, noted in ((False, False), (True, True), (False, True)):
        register(str(cache), root, shared=False, git=now)
        assert [found.git for found in registered(str(cache))] == [noted]
    assert os.listdir(cache / "roots") == [record_name(root)]
    (cache / "roots" / record_name(root)).write_text("{")
    register(str(cache), root, shared=False)
    assert [found.git for found in registered(str(cache))] == [False]


def test_one_that_is_gone_or_broken_is_an_error(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    root = project(tmp_path / "a")
    register(str(cache), root, shared=True)
    [name] = os.listdir(cache / "roots")
    assert (cache / "roots").stat().st_mode & 0o7777 == 0o2775
    os.rename(root, tmp_path / "away")
    with pytest.raises(NotFound, match="is not there") as caught:
        registered(str(cache))
    assert f"rm '{cache}/roots/{name}'" in caught.value.hint
    for text in ("", "{", '{"dvcx": 2, "root": "/a", "host": "h"}', '{"dvcx": 1, "root": "a", "host": "h"}'):
        (cache / "roots" / name).write_text(text)
        with pytest.raises(IntegrityError):
            registered(str(cache))
    (cache / "roots" / name).unlink()
    (cache / "roots" / name).symlink_to(tmp_path / "away/.dvcx/config.toml")
    with pytest.raises(UnsafeInput):
        registered(str(cache))
