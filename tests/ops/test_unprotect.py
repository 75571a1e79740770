from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.errors import IntegrityError, NotFound
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


def test_copies_are_verified(project_with_links: Project) -> None:
    project = project_with_links
    here = os.path.realpath(f"{project.root}/one")
    os.chmod(here, 0o644)
    data = bytearray(Path(here).read_bytes())
    data[7] ^= 1
    before = os.stat(here)
    with Path(here).open("r+b") as file:
        file.write(data)
    os.utime(here, ns=(before.st_atime_ns, before.st_mtime_ns))
    # The bytes changed under both names: there is no object of the new ones, so nothing is taken for a copy of one.
    try:
        assert "one" not in unprotect(project, ["one"]).paths
    except (IntegrityError, NotFound):
        pass
    assert Path(here).read_bytes() == bytes(data)


def test_what_is_not_tracked(project: Project, put: Put) -> None:
    put({"x": "x"})
    with pytest.raises(NotFound):
        unprotect(project, ["x"])
