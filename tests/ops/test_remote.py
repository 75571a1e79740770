from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from dvcx.errors import Conflict, NotFound, RemoteFailed, UnsafeInput, UsageError
from dvcx.events import Ended, Noted
from dvcx.ops import remote
from dvcx.ops.add import add as track
from dvcx.project import Project, open_project
from tests.ops.conftest import Git
from tests.ops.trying import setting


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
    store = Path(project.root, "stores/one")
    for there in (True, False):
        store.mkdir() if there else store.rmdir()
        again = open_project(project.root)
        remote.remove(again, "o")
        assert Path(project.root, "stores/.gitignore").exists() == there  # what is stored there must not end up in git
        remote.add(open_project(project.root), "o", "stores/one")


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


def test_check(project: Project, tmp_path_factory: pytest.TempPathFactory, events: list[object]) -> None:
    store = tmp_path_factory.mktemp("store")
    remote.add(project, "o", str(store))
    result = remote.check(again(project), quick=True, emit=events.append)  # type: ignore[arg-type]
    assert (result.remote, result.url, result.fit, result.readable) == ("o", str(store), True, True)
    assert {item.check for item in result.items if item.verdict == "skipped"} == {"large files", "interrupted upload"}
    assert list(store.iterdir()) == []
    assert Ended("checking the remote") in events


def test_check_of_a_directory_that_is_not_there(project: Project, tmp_path: Path) -> None:
    remote.add(project, "o", str(tmp_path / "absent"))
    with pytest.raises(RemoteFailed, match="does not exist"):
        remote.check(again(project))
    assert not (tmp_path / "absent").exists()


def test_check_of_what_may_only_be_read(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = tmp_path_factory.mktemp("store")
    (store / "check").write_text("a file where a directory must be made")
    remote.add(project, "o", str(store))
    result = remote.check(again(project), quick=True)
    assert (result.fit, result.readable) == (False, True)
    assert [item.check for item in result.items if item.verdict == "failed"] == ["write"]
    assert [path.name for path in store.iterdir()] == ["check"]


def test_what_killed_pushes_left_is_removed_by_the_next_push_within_an_hour(
    project: Project, tmp_path_factory: pytest.TempPathFactory, events: list[object]
) -> None:
    store = tmp_path_factory.mktemp("store")
    remote.add(project, "o", str(store))
    project = again(project)
    project.remote("o", events.append, write=True).close()
    left = store / "packs/tmp-dvcx-0123456789abcdef"
    left.parent.mkdir(exist_ok=True)
    left.write_bytes(b"half a pack")
    os.utime(left, (time.time() - 90_000,) * 2)
    project.remote("o", events.append, write=True).close()
    assert left.exists()  # looked for when the store was made, a moment ago
    (stamp,) = Path(project.state_dir).glob("*-reaped")
    os.utime(stamp, (time.time() - 4000,) * 2)
    project.remote("o", events.append).close()
    assert left.exists()  # reading is no push
    project.remote("o", events.append, write=True).close()
    assert not left.exists()
    assert [event.message for event in events if isinstance(event, Noted)] == [
        "remote 'o': removed 1 unfinished upload of killed pushes"
    ]


def test_an_unknown_scheme_is_refused_at_once(project: Project) -> None:
    with pytest.raises(UsageError) as caught:
        remote.add(project, "origin", "s4://bucket/x")
    assert "did you mean s3://?" in caught.value.hint and again(project).config.remotes() == ()
    remote.add(project, "origin", "s3://bucket/x")
    for url in ("sftpp://host/x", "https://host/x", "s3:/bucket"):
        with pytest.raises(UsageError):
            remote.modify(again(project), "origin", "url", url)
    assert again(project).config.remote("origin")["url"] == "s3://bucket/x"


def test_hints_name_the_remote(project: Project) -> None:
    remote.add(project, "mine", "s3://bucket/x")
    with pytest.raises(UsageError) as caught:
        setting(again(project), **{"remote_mine.timeout": "never"}).remote_backend("mine", lambda event: None)
    assert caught.value.hint == "dvcx remote modify mine timeout 60"
