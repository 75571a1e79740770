"""check: a clone without data can be judged; what is there is looked at."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.ops.add import add
from dvcx.ops.check import check
from dvcx.ops.init import init
from dvcx.ops.run import run
from dvcx.ops.status import status
from dvcx.project import Project, open_project


@pytest.fixture
def clone(repo: Path, git: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone, without data, of a project with a file, a directory and two stages."""
    init(str(repo))
    project = open_project(str(repo))
    (repo / "data.csv").write_text("1\n")
    (repo / "many").mkdir()
    (repo / "many" / "a").write_text("a\n")
    add(project, ["data.csv", "many"])
    (repo / "params.yaml").write_text("lr: 1\n")
    run(project, "one", "cp data.csv out.csv && echo 3 > metrics.json", deps=["data.csv"], outs=["out.csv"],
        metrics_no_cache=["metrics.json"])  # fmt: skip
    run(project, "two", "cat out.csv many/a > end", deps=["out.csv", "many"], outs=["end"], params=["lr"])
    git("add", "params.yaml")
    git("commit", "-qm", "all")
    place = tmp_path_factory.mktemp("clone")
    git("clone", "-q", str(repo), str(place / "c"))
    return open_project(str(place / "c"))


def test_without_data(clone: Project) -> None:
    assert check(clone).clean
    assert not status(clone).clean


def test_a_changed_parameter(clone: Project) -> None:
    Path(clone.root, "params.yaml").write_text("lr: 2\n")
    verdicts = {stage.stage: stage for stage in check(clone).stages}
    assert verdicts["one"].state == "fresh"
    assert verdicts["two"].state == "stale" and verdicts["two"].reasons == ("params.yaml: lr 1 → 2",)


def test_data_recorded_without_a_new_run(clone: Project, git: Callable[..., str]) -> None:
    Path(clone.root, "data.csv").write_text("2\n")
    add(clone, ["data.csv"])
    Path(clone.root, "data.csv").unlink()
    answer = check(clone)
    assert answer.data == () and not answer.clean
    assert answer.stages[0].reasons == ("data.csv: changed",)


def test_data_that_is_there_is_looked_at(clone: Project) -> None:
    Path(clone.root, "data.csv").write_text("other\n")
    assert [change.path for change in check(clone).data] == ["data.csv"]


def test_what_git_keeps_must_be_there(clone: Project) -> None:
    Path(clone.root, "metrics.json").unlink()
    assert next(stage.stage for stage in check(clone).stages if stage.state != "fresh") == "one"


def test_a_stage_that_never_ran(clone: Project) -> None:
    with Path(clone.root, "dvcx.yaml").open("a") as file:
        file.write("  three:\n    cmd: cat end > last\n    deps: [end]\n    outs: [last]\n")
    assert [stage.stage for stage in check(clone).stages if stage.state != "fresh"] == ["three"]
