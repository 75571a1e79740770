from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.errors import NotFound
from dvcx.events import Warned
from dvcx.ops.add import add
from dvcx.ops.status import status
from dvcx.ops.unprotect import unprotect
from dvcx.project import Project
from tests.ops.conftest import linked

Put = Callable[..., None]
BIG = "x" * (1 << 20)


@pytest.fixture(params=["hardlink", "symlink"])
def project_with_links(request: pytest.FixtureRequest, project: Project, put: Put) -> Project:
    put({"images/big": BIG, "images/sub/other": BIG + "y", "images/small": "s", "one": BIG + "z", "two": BIG})
    chosen = linked(project, request.param, "copy")
    add(chosen, ["images", "one", "two"])
    return chosen


def umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current


def is_linked(project: Project, path: str) -> bool:
    here = os.lstat(f"{project.root}/{path}")
    return os.path.islink(f"{project.root}/{path}") or here.st_nlink > 1


def test_links_become_writable_copies(project_with_links: Project, put: Put) -> None:
    project = project_with_links
    assert all(is_linked(project, path) for path in ("images/big", "images/sub/other", "one"))
    assert unprotect(project, ["images/sub", "one.dvcx"]).paths == ("images/sub/other", "one")
    assert unprotect(project, ["images"]).paths == ("images/big", "images/small") or not is_linked(project, "images/big")
    assert is_linked(project, "two")
    for path in ("images/big", "images/sub/other", "one"):
        assert not is_linked(project, path)
        assert os.access(f"{project.root}/{path}", os.W_OK)
        assert os.lstat(f"{project.root}/{path}").st_mode & 0o200
    assert status(project).clean
    put({"one": "edited"})
    assert Path(project.root, "two").read_text() == BIG
    assert unprotect(project, ["one", "images"]).paths == ()


def test_what_was_edited_through_its_link_is_kept(project_with_links: Project) -> None:
    project = project_with_links
    here = os.path.realpath(f"{project.root}/one")
    os.chmod(here, 0o644)
    data = bytearray(Path(here).read_bytes())
    data[7] ^= 1
    kept = bytes(data)
    before = os.stat(here)
    with Path(here).open("r+b") as file:
        file.write(data)
    os.utime(here, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.chmod(here, 0o444)
    # The bytes changed under both names: there is no object of the new ones, and the user's are kept as they are.
    told: list[object] = []
    assert unprotect(project, ["one"], emit=told.append).paths == ("one",)
    assert [event.message for event in told if isinstance(event, Warned)] == [
        "one: its copy in the cache was edited through the link; dvcx pull gets the right one again"
    ]
    assert not is_linked(project, "one") and os.access(f"{project.root}/one", os.W_OK)
    assert Path(project.root, "one").read_bytes() == kept
    assert os.lstat(f"{project.root}/one").st_mode & 0o777 == 0o666 & ~umask()
    assert [change.path for change in status(project).data] == ["one"]
    assert unprotect(project, ["one"]).paths == ()


def test_what_is_not_tracked(project: Project, put: Put) -> None:
    put({"x": "x"})
    with pytest.raises(NotFound):
        unprotect(project, ["x"])
