"""Templates from the outside: groups run, a parameter makes exactly its stages stale, revisions use their own values."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.errors import UsageError
from dvcx.ops import records
from dvcx.ops.remove import remove
from dvcx.ops.repro import repro
from dvcx.ops.stage import add
from dvcx.project import Project

PIPELINE = """\
stages:
  build:
    foreach: ${models}
    do:
      cmd: echo ${item.lr} ${note} > out-${key}
      deps: [source]
      outs: ['out-${key}']
  grid:
    matrix: {a: [1, 2], b: [x/y]}
    cmd: mkdir -p grid${item.a}/x && echo ${key} > grid${item.a}/${item.b}
    outs: ['grid${item.a}/${item.b}']
"""
PARAMS = "models: {small: {lr: 1}, large: {lr: 2}}\nnote: 'two words; echo $HOME'\n"


@pytest.fixture
def made(project: Project) -> Project:
    root = Path(project.root)
    (root / "dvcx.yaml").write_text(PIPELINE)
    (root / "params.yaml").write_text(PARAMS)
    (root / "source").write_text("s\n")
    return project


def test_a_group_runs_and_a_parameter_concerns_its_own_stages(made: Project) -> None:
    root = Path(made.root)
    repro(made, ["build"])
    assert (root / "out-small").read_text() == "1 two words; echo $HOME\n"
    assert not (root / "grid1").exists()
    repro(made, [])
    assert (root / "grid2/x/y").read_text() == "2-x/y\n"
    assert {stage.address for stage in records.load(made).stages} == {"build@small", "build@large", "grid@1-x/y", "grid@2-x/y"}
    assert set(records.load(made).lock) == {stage.address for stage in records.load(made).stages}
    (root / "params.yaml").write_text(PARAMS.replace("lr: 2", "lr: 3"))
    changed = {stage.name: stage.cmd for stage in records.load(made).stages}
    assert changed["build@large"] == "echo 3 'two words; echo $HOME' > out-large"
    ran = [run.stage for run in repro(made, []).runs if run.how == "ran"]
    assert ran == ["build@large"]


def test_what_is_remembered_depends_on_every_file_that_was_read(made: Project) -> None:
    root = Path(made.root)
    (root / "dvcx.yaml").write_text("vars: [more.json]\nstages:\n  a: {vars: [local.py], cmd: 't ${x} ${y} ${lr}'}\n")
    (root / "more.json").write_text('{"x": 1}')
    (root / "local.py").write_text("y = 2")
    (root / "params.yaml").write_text("lr: 3")

    def cmd() -> object:
        return records.load(made).stages[0].cmd

    assert cmd() == cmd() == "t 1 2 3"
    (root / "more.json").write_text('{"x": 4}')
    assert cmd() == "t 4 2 3"
    (root / "local.py").write_text("y = 5")
    assert cmd() == "t 4 5 3"
    (root / "params.yaml").write_text("lr: 6")
    assert cmd() == cmd() == "t 4 5 6"
    (root / "params.yaml").unlink()
    with pytest.raises(UsageError, match=r"dvcx\.yaml:3:30: stages\.a\.cmd: 'lr' is not defined"):
        cmd()


def test_a_revision_has_its_own_values(made: Project, git: Callable[..., str]) -> None:
    git("add", "-A")
    git("commit", "-q", "-m", "first")
    (Path(made.root) / "params.yaml").write_text(PARAMS.replace("lr: 2", "lr: 9").replace("small", "tiny"))
    then = {stage.name: stage.cmd for stage in records.load(made, "HEAD").stages}
    now = {stage.name: stage.cmd for stage in records.load(made).stages}
    assert then["build@large"] == "echo 2 'two words; echo $HOME' > out-large"
    assert now["build@large"] == "echo 9 'two words; echo $HOME' > out-large"
    assert ("build@small" in then, "build@small" in now, "build@tiny" in now) == (True, False, True)


def test_one_of_a_group_is_changed_in_the_file(made: Project) -> None:
    for target in ("build", "build@small"):
        with pytest.raises(UsageError, match="is one of those that 'build' makes"):
            remove(made, [target])
    add(made, "more", "echo 1 > more-out", outs=["more-out"])
    assert "foreach: ${models}" in (Path(made.root) / "dvcx.yaml").read_text()
    assert len(records.load(made).stages) == 5
