"""run: a stage written and run at once, or not there at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from dvcx.errors import Conflict, StageFailed
from dvcx.ops import stage
from dvcx.ops.repro import repro
from dvcx.ops.run import run
from dvcx.ops.status import status
from dvcx.project import Project
from tests.ops.trying import again, lock, run_git, text, write


def test_a_stage_is_written_and_run(project: Project) -> None:
    write(project, {"in": "abc"})
    done = run(project, "upper", "tr a-z A-Z < in > out", deps=["in"], outs=["out"])
    assert done.stage.name == "upper" and done.run is not None
    assert (done.run.stage, done.run.how, done.run.reasons) == ("upper", "ran", ("never run",))
    assert text(project, "out") == "ABC" and list(lock(project)) == ["upper"]
    assert status(again(project)).clean
    assert {"dvcx.yaml", "dvcx.lock", ".gitignore"} <= set(run_git(project, "diff", "--cached", "--name-only").split())


def test_only_that_stage_runs(project: Project) -> None:
    write(project, {"dvcx.yaml": "stages:\n  before:\n    cmd: echo run >> count; echo > a\n    outs: [a]\n", "a": "here"})
    done = run(project, "s", "cp a b", deps=["a"], outs=["b"])
    assert done.run is not None and done.run.how == "ran" and not Path(project.root, "count").exists()


def test_without_running_it(project: Project) -> None:
    done = run(project, "s", "echo > out", outs=["out"], no_exec=True)
    assert done.run is None and not Path(project.root, "out").exists()
    assert [info.name for info in stage.list_(again(project)).stages] == ["s"]


@pytest.mark.parametrize("before", ["", "# mine\nstages:\n  other:\n    cmd: echo > o\n    outs: [o]\n"])
@pytest.mark.parametrize("command", ["echo > out; exit 3", "true"])
def test_a_failure_takes_the_stage_back(project: Project, before: str, command: str) -> None:
    if before:
        write(project, {"dvcx.yaml": before})
        run_git(project, "add", "dvcx.yaml")
    index = run_git(project, "ls-files", "--stage")
    with pytest.raises(StageFailed, match="'s'") as caught:
        run(again(project), "s", command, outs=["out"])
    assert caught.value.hint and caught.value.exit_code == 10
    assert (text(project, "dvcx.yaml") if before else "") == before
    assert Path(project.root, "dvcx.yaml").exists() == bool(before)
    assert not Path(project.root, "out").exists() and not Path(project.root, "dvcx.lock").exists()
    assert run_git(project, "ls-files", "--stage") == index


def test_a_name_that_is_taken_needs_force(project: Project) -> None:
    run(project, "s", "echo 1 > out", outs=["out"])
    with pytest.raises(Conflict):
        run(again(project), "s", "echo 2 > out", outs=["out"])
    assert text(project, "out") == "1\n"
    done = run(again(project), "s", "echo 2 > out", outs=["out"], force=True)
    assert done.run is not None and done.run.how == "ran" and text(project, "out") == "2\n"
    with pytest.raises(StageFailed):
        run(again(project), "s", "exit 1", outs=["out"], force=True)
    assert text(project, "out") == "2\n" and status(again(project)).clean


def test_a_known_result_is_restored(project: Project) -> None:
    write(project, {"in": "1"})
    run(project, "s", "echo run >> count; cp in out", deps=["in"], outs=["out"])
    Path(project.root, "dvcx.yaml").unlink()
    Path(project.root, "dvcx.lock").unlink()
    done = run(again(project), "s", "echo run >> count; cp in out", deps=["in"], outs=["out"])
    assert done.run is not None and done.run.how == "restored" and text(project, "count") == "run\n"


def test_two_stages_of_one_name_in_two_directories(project: Project) -> None:
    run(project, "s", "echo root > out", outs=["out"])
    done = run(again(project), "s", "echo sub > out", outs=["out"], directory="sub")
    assert done.stage.name == "sub/dvcx.yaml:s" and text(project, "sub/out") == "sub\n"
    assert list(lock(project, "sub/dvcx.lock")) == ["s"]
    assert {item.how for item in repro(again(project)).runs} == {"unchanged"}
