"""init: what it writes, where it refuses."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dvcx.errors import Conflict, NoProject, UnsafeInput, UsageError
from dvcx.ops.init import Initialized, init
from dvcx.ops.status import status
from dvcx.project import open_project
from tests.ops.conftest import Git

MADE = (".dvcx/.gitignore", ".dvcx/config.toml", ".dvcxignore")


def test_a_new_project_in_git(repo: Path, git: Git) -> None:
    assert init(str(repo)) == Initialized(str(repo), "xxh128", True, MADE)
    assert git("diff", "--cached", "--name-only").split() == list(MADE)
    assert (repo / ".dvcx/.gitignore").read_text().split() == ["/config.local.toml", "/cache/", "/state/", "/tmp/"]
    project = open_project(str(repo))
    assert project.git is not None and project.algorithm == "xxh128"
    found = status(project)
    assert (found.data, found.stages, found.tracked, found.clean) == ((), (), 0, True)
    git("commit", "-qm", "init")
    status(project)
    assert git("status", "--porcelain") == ""


def test_a_project_without_git(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not in a git repository") as caught:
        init(str(tmp_path / "p"))
    assert "--no-git" in caught.value.hint
    assert init(str(tmp_path / "p"), git=False) == Initialized(str(tmp_path / "p"), "xxh128", False, MADE)
    assert open_project(str(tmp_path / "p")).git is None


def test_in_a_subdirectory_of_a_repository(repo: Path, git: Git) -> None:
    done = init(str(repo / "deep/er"))
    assert done.root == str(repo / "deep/er") and done.git
    assert git("diff", "--cached", "--name-only").split() == [f"deep/er/{name}" for name in MADE]
    assert open_project(str(repo / "deep/er")).root == str(repo / "deep/er")
    with pytest.raises(NoProject):
        open_project(str(repo))


def test_another_hash(repo: Path) -> None:
    assert init(str(repo), hash="blake3").hash == "blake3"
    assert open_project(str(repo)).algorithm == "blake3"
    with pytest.raises(UsageError, match="unknown hash 'md5'"):
        init(str(repo / "other"), hash="md5")
    assert not (repo / "other").exists()


def test_twice(repo: Path) -> None:
    init(str(repo))
    before = (repo / ".dvcx/config.toml").read_bytes()
    with pytest.raises(Conflict, match="is a dvcx project already"):
        init(str(repo))
    assert (repo / ".dvcx/config.toml").read_bytes() == before


def test_an_ignore_file_that_is_there_stays(repo: Path) -> None:
    (repo / ".dvcxignore").write_text("*.tmp\n")
    init(str(repo))
    assert (repo / ".dvcxignore").read_text() == "*.tmp\n"


def test_nothing_is_written_through_a_link(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (repo / ".dvcx").symlink_to(outside)
    with pytest.raises((UnsafeInput, Conflict)):
        init(str(repo))
    assert list(outside.iterdir()) == []


def test_in_a_worktree_and_with_a_detached_head(repo: Path, git: Git, tmp_path_factory: pytest.TempPathFactory) -> None:
    init(str(repo))
    git("commit", "-qm", "init")
    git("checkout", "-q", "--detach")
    assert status(open_project(str(repo))).clean
    tree = tmp_path_factory.mktemp("trees") / "second"
    git("worktree", "add", "-q", str(tree), "main")
    assert status(open_project(str(tree))).clean
    done = subprocess.run(["git", "status", "--porcelain"], cwd=tree, capture_output=True, text=True, check=True)
    assert done.stdout == ""
