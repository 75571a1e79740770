from __future__ import annotations

from pathlib import Path

import pytest

from dvcx.errors import Conflict, NotFound, UnsafeInput, UsageError
from dvcx.ops import remote
from dvcx.ops.add import add as track
from dvcx.project import Project, open_project
from tests.ops.conftest import Git


def again(project: Project) -> Project:
    return open_project(project.root)


def committed(project: Project) -> str:
    return Path(project.root, ".dvcx/config.toml").read_text()


def private(project: Project) -> str:
    file = Path(project.root, ".dvcx/config.local.toml")
    return file.read_text() if file.exists() else ""


def test_add_list_default_remove(project: Project) -> None:
    assert remote.add(project, "origin", "s3://bucket/prefix") == remote.Remote(
        "origin", "s3://bucket/prefix", False, ".dvcx/config.toml"
    )
    assert [item.default for item in remote.list_(again(project)).items] == [True]
    remote.add(again(project), "backup", "/mnt/backup", default=True)
    assert [(item.name, item.default) for item in remote.list_(again(project)).items] == [("backup", True), ("origin", False)]
    remote.default(again(project), "origin")
    assert again(project).remote_name() == "origin"
    remote.remove(again(project), "origin")
    assert "core" not in committed(project)
    assert again(project).remote_name() == "backup"
    with pytest.raises(NotFound):
        remote.remove(again(project), "origin")


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("../../store", "../store"),
        ("/abs/store/", "/abs/store"),
        ("~/store", "HOME/store"),
        ("file:///abs/store", "file:///abs/store"),
    ],
)
def test_a_directory_is_stored_relative_to_the_root(project: Project, isolated: Path, typed: str, stored: str) -> None:
    base = Path(project.root, "sub")
    base.mkdir()
    result = remote.add(project, "o", typed, base=str(base))
    assert result.url == stored.replace("HOME", str(isolated))


def test_a_directory_inside_the_project_is_ignored_by_git(project: Project, git: Git) -> None:
    remote.add(project, "o", "stores/one")
    assert Path(project.root, "stores/.gitignore").read_text() == "/one\n"
    assert "stores/.gitignore" in git("diff", "--cached", "--name-only")


def test_places_that_are_no_place_for_a_remote(project: Project, put: object) -> None:
    Path(project.root, "data").mkdir()
    Path(project.root, "data/x").write_text("x")
    track(project, ["data"])
    for url, kind in (
        (".", UsageError),
        ("..", UsageError),
        (".dvcx/cache", UsageError),
        (".dvcx/store", UnsafeInput),
        (".git/store", UnsafeInput),
        ("data/store", Conflict),
        ("file://store", UsageError),
        ("s3://KEY:CANARY@bucket", UsageError),
    ):
        with pytest.raises(kind) as caught:
            remote.add(project, "o", url)
        assert "CANARY" not in caught.value.message + caught.value.hint
    assert "remote" not in committed(project)


def test_a_name_is_taken_until_forced(project: Project) -> None:
    remote.add(project, "o", "s3://one/x")
    remote.modify(again(project), "o", "region", "eu")
    remote.modify(again(project), "o", "secret_access_key", "CANARY", local=True)
    with pytest.raises(Conflict):
        remote.add(again(project), "o", "s3://two/x")
    remote.add(again(project), "o", "s3://two/x", force=True)
    assert again(project).config.remote("o") == {"url": "s3://two/x"}
    assert "CANARY" not in private(project)


def test_local_remotes_leave_the_committed_file_alone(project: Project) -> None:
    before = committed(project)
    remote.add(project, "mine", "/mine", default=True, local=True)
    remote.default(again(project), "mine")
    assert committed(project) == before
    remote.remove(again(project), "mine")
    assert "mine" not in private(project)


def test_credentials_only_go_into_the_private_file(project: Project) -> None:
    remote.add(project, "o", "s3://bucket/x")
    with pytest.raises(UsageError) as caught:
        remote.modify(again(project), "o", "secret_access_key", "CANARY")
    assert "CANARY" not in caught.value.message + caught.value.hint
    result = remote.modify(again(project), "o", "secret_access_key", "CANARY", local=True)
    assert "CANARY" not in repr(result)
    assert "CANARY" not in committed(project)
    assert again(project).config.remote("o")["secret_access_key"] == "CANARY"
    remote.modify(again(project), "o", "secret_access_key", unset=True, local=True)
    assert "CANARY" not in private(project)


def test_modify_needs_something_to_modify(project: Project) -> None:
    with pytest.raises(NotFound):
        remote.modify(project, "o", "region", "eu")
    remote.add(project, "o", "s3://bucket/x")
    with pytest.raises(UsageError):
        remote.modify(again(project), "o", "regoin", "eu")
    with pytest.raises(UsageError):
        remote.modify(again(project), "o", "url", unset=True)
    remote.modify(again(project), "o", "url", "s3://bucket/mine", local=True)
    remote.modify(again(project), "o", "url", unset=True, local=True)
    assert again(project).config.remote("o")["url"] == "s3://bucket/x"
    with pytest.raises(NotFound):
        remote.modify(again(project), "o", "url", unset=True, local=True)
    with pytest.raises(NotFound):
        remote.modify(again(project), "o", "region", unset=True)
    assert remote.modify(again(project), "o", "url", "../x").value == "../x"
