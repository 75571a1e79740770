from __future__ import annotations

from pathlib import Path

import pytest

from dvcx.errors import NotFound, UsageError
from dvcx.ops import config
from dvcx.project import Project, open_project
from tests.ops.conftest import Git


def again(project: Project) -> Project:
    return open_project(project.root)


def test_a_setting_is_written_staged_and_taken_out(project: Project, git: Git) -> None:
    git("commit", "-qm", "one")
    assert config.get(project, "core.autostage") == config.Setting("core.autostage", True, "default")
    assert config.set_(project, "cache.link", "hardlink, copy").value == ("hardlink", "copy")
    assert config.get(again(project), "cache.link") == config.Setting("cache.link", ("hardlink", "copy"), ".dvcx/config.toml")
    assert git("diff", "--cached", "--name-only").split() == [".dvcx/config.toml"]
    config.unset(again(project), "cache.link")
    assert config.get(again(project), "cache.link").source == "default"


def test_private_settings_stay_private(project: Project, git: Git) -> None:
    with pytest.raises(UsageError, match="may not stand in a committed file"):
        config.set_(project, "cache.dir", "/elsewhere")
    config.set_(project, "cache.dir", "/elsewhere", local=True)
    assert again(project).cache_dir == "/elsewhere"
    assert Path(project.root, ".dvcx/config.local.toml").stat().st_mode & 0o777 == 0o600
    assert "local" not in git("status", "--porcelain", "--untracked-files=all")


def test_what_cannot_be_set(project: Project) -> None:
    for key, value in (
        ("core.hash", "blake3"),
        ("core.nothing", "1"),
        ("core.autostage", "perhaps"),
        ("remote.o.url", "/store"),
    ):
        with pytest.raises(UsageError):
            config.set_(project, key, value)
    with pytest.raises(NotFound):
        config.set_(project, "core.remote", "nowhere")


def test_unset_says_where_it_is_set(project: Project) -> None:
    config.set_(project, "core.jobs", "3", local=True)
    with pytest.raises(NotFound) as caught:
        config.unset(again(project), "core.jobs")
    assert "--local" in caught.value.hint
    with pytest.raises(NotFound):
        config.get(project, "core.remote")


def test_show_lists_everything_but_secrets(project: Project) -> None:
    from dvcx.ops import remote

    remote.add(project, "o", "s3://bucket/x")
    remote.modify(again(project), "o", "secret_access_key", "CANARY", local=True)
    shown = config.show(again(project))
    values = {item.key: item for item in shown.items}
    assert values["remote.o.url"].value == "s3://bucket/x"
    assert values["remote.o.secret_access_key"].value == "****"
    assert values["core.fsync"].source == "default"
    assert "CANARY" not in repr(shown) + repr(config.get(again(project), "remote.o.secret_access_key"))
