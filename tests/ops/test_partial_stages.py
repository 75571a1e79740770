"""Stages whose dependencies or outputs are only partly here: judged as recorded, never run or recorded on a part."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dvcx.errors import Conflict, StageFailed
from dvcx.ops.add import add
from dvcx.ops.check import check
from dvcx.ops.commit import commit
from dvcx.ops.pull import pull
from dvcx.ops.push import push
from dvcx.ops.repro import repro
from dvcx.ops.run import run
from dvcx.ops.status import status
from dvcx.ops.why import why
from dvcx.project import Project
from tests.ops.trying import again, clone, commit_all, lock, pointer, with_remote, write

STAGES = """\
stages:
  split:
    cmd: mkdir parts; for i in 1 2 3; do cat data/a data/sub/b > parts/$i; done
    deps: [data]
    outs: [parts]
  count:
    cmd: ls parts | wc -l > total
    deps: [parts]
    outs: [total]
  one:
    cmd: cp data/sub/b copy
    deps: [data/sub]
    outs: [copy]
"""


@pytest.fixture
def bare(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone of a project that was run and pushed; nothing was pulled."""
    write(project, {"data/a": "a", "data/sub/b": "b", "dvcx.yaml": STAGES})
    add(project, ["data"])
    repro(again(project))
    project = with_remote(again(project), tmp_path_factory.mktemp("remote"))
    push(project)
    commit_all(project)
    return again(clone(project, tmp_path_factory.mktemp("clone") / "c"))


@pytest.fixture
def there(bare: Project) -> Project:
    """A clone in which `data/a` of two files and `parts/1` of three were pulled, and the single outputs."""
    pull(bare, ["data/a", "parts/1", "total", "copy"])
    return again(bare)


def test_status_and_check_take_it_as_recorded(there: Project) -> None:
    found = status(there)
    assert [(change.path, change.state, change.text) for change in found.data] == [("data", "not pulled", "1 of 2 files")]
    states = {stage.stage: (stage.state, stage.reasons) for stage in found.stages}
    assert states["split"][0] == "fresh" and states["count"] == ("fresh", ())
    assert states["one"] == ("fresh", ())
    pull(there, ["data/sub"])
    assert check(there).clean and status(there).clean


def test_a_clone_without_any_data_is_not_stale(bare: Project) -> None:
    """Every reader says so, and what cannot be told without a listing; a remote has it, and `repro --pull` keeps it."""
    found = status(bare)
    assert {change.path for change in found.data if change.state == "not pulled"} == {"data", "parts", "total", "copy"}
    untold = "data/sub: not here, and nobody can tell what it is without the listing of data"
    states = {stage.stage: (stage.state, stage.reasons) for stage in found.stages}
    assert states == {"split": ("fresh", ()), "count": ("fresh", ()), "one": ("stale", (untold,))}
    assert not check(bare).clean and check(bare, remote="").clean
    assert {stage.state for stage in status(bare, remote="").stages} == {"fresh"}

    assert {turn.stage: turn.how for turn in repro(bare, pull=True).runs} == {
        "split": "unchanged", "count": "restored", "one": "restored",
    }  # fmt: skip
    bare = again(bare)
    assert {stage.state for stage in status(bare).stages} == {"fresh"} and check(bare).clean
    told = why(bare, ["split", "one", "parts"])
    assert {stage.state for stage in told.stages} == {"fresh"} and not told.run and not told.restore and not told.might_run
    assert {turn.how for turn in repro(bare, dry_run=True).runs} == {"unchanged"}


def test_repro_runs_nothing_that_is_fresh(there: Project) -> None:
    before = lock(there)
    turns = {turn.stage: turn.how for turn in repro(there, ["count"]).runs}
    assert turns == {"split": "unchanged", "count": "unchanged"} and lock(there) == before


def test_a_stage_is_not_run_on_a_part(there: Project) -> None:
    before = lock(there), pointer(there, "data.dvcx")
    done = repro(there, ["split"], force=True)
    assert done.failed == 1 and "its dependency data is not all here (1 file not pulled)" in done.runs[0].error
    assert "dvcx pull data" in done.runs[0].error
    write(there, {"data/a": "edited"})
    done = repro(there, ["split"])
    assert done.failed == 1 and "not pulled" in done.runs[0].error
    assert lock(there) == before[0]
    assert pointer(there, "data.dvcx")["files"] == 2  # the edit was recorded, the rest kept
    with pytest.raises(StageFailed, match="not pulled"):
        run(there, "new", "ls data > list", deps=["data"], outs=["list"])
    pull(there)
    assert {turn.stage: turn.how for turn in repro(there).runs}["split"] == "ran"
    assert Path(there.root, "parts/2").read_text() == "editedb"


def test_an_output_is_not_recorded_as_a_part(there: Project) -> None:
    pull(there, ["data"])
    write(there, {"parts/1": "by hand"})
    before = lock(there)
    with pytest.raises(Conflict, match=r"output parts is not all here \(2 files not pulled\)") as caught:
        commit(there)
    assert "--exact" in caught.value.hint and lock(there) == before
    assert set(commit(there, exact=True).stages) >= {"split"}
    (out,) = lock(there)["split"]["outs"]
    assert out["files"] == 1


def test_outputs_that_were_deleted_are_restored_or_missed(there: Project) -> None:
    os.remove(f"{there.root}/parts/1")
    states = {stage.stage: stage.state for stage in status(there).stages}
    assert states["split"] == "stale"  # what was here and is gone is a change
    pull(there, ["parts"])
    assert {stage.stage: stage.state for stage in status(there).stages}["split"] == "fresh"
