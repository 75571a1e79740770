from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from dvcx.ops import remote
from dvcx.ops.add import add
from dvcx.ops.doctor import doctor
from dvcx.ops.push import push
from dvcx.project import Project, open_project


def test_without_a_project(tmp_path: Path) -> None:
    found = doctor(str(tmp_path))
    assert (found.project, found.remotes, found.problems) == ("", (), ())
    assert found.packages["xxhash"][0].isdigit()
    json.dumps(asdict(found))


def test_a_project_and_its_remotes(project: Project, put: Callable[..., None], tmp_path_factory: pytest.TempPathFactory) -> None:
    put({"x": "x"})
    add(project, ["x"])
    store = tmp_path_factory.mktemp("stores")
    for name in ("good", "fresh", "gone"):
        remote.add(open_project(project.root), name, f"{store}/{name}")
    push(open_project(project.root), remote="good")
    Path(store, "gone").write_text("a file, no directory")
    remote.add(open_project(project.root), "keyed", "s3://127.0.0.1-no-such/x")
    for key, value in (
        ("endpoint", "http://127.0.0.1:9"),
        ("access_key_id", "CANARYID"),
        ("secret_access_key", "CANARY"),
        ("region", "eu-1"),
        ("timeout", "1"),
    ):
        remote.modify(open_project(project.root), "keyed", key, value, local=True)
    found = doctor(project.root)
    states = {item.name: item.state for item in found.remotes}
    assert states["good"] == "reachable"
    assert states["fresh"] == "empty"
    assert states["keyed"] == "failed"
    assert found.project == project.root
    assert set(found.link_support) == {"reflink", "hardlink", "symlink"}
    assert found.memories["statindex.sqlite"] == "ok"
    assert "CANARY" not in json.dumps(asdict(found))
    assert any("keyed" in problem for problem in found.problems)


def test_what_is_broken_is_told_not_raised(project: Project, put: Callable[..., None]) -> None:
    put({"x": "x", ".dvcx/config.local.toml": ""})
    add(project, ["x"])
    Path(project.state_dir, "statindex.sqlite").write_bytes(b"garbage" * 1000)
    Path(project.root, ".dvcx/config.toml").write_text("[cache]\ndir = '/etc'\n")
    Path(project.root, ".dvcx/config.local.toml").chmod(0o600)
    found = doctor(project.root)
    assert any("statindex" in problem for problem in found.problems)
    assert any("cache.dir" in warning for warning in found.warnings)
    Path(project.root, ".dvcx/config.toml").write_text("[cache\n")
    assert any("TOML" in problem for problem in doctor(project.root).problems)
