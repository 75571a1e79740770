"""commit: what is in the workspace is recorded, data and stages alike."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from dvcx.errors import NotFound
from dvcx.ops.add import add
from dvcx.ops.checkout import checkout
from dvcx.ops.commit import Committed, commit
from dvcx.ops.repro import repro
from dvcx.ops.status import status
from dvcx.project import Project
from tests.ops.trying import again, lock, run_git, seen, text, write

STAGES = """\
stages:
  s:
    cmd: echo run >> count; cp in out; wc -c < in > m.json
    deps: [in]
    outs: [out]
    metrics:
    - m.json: {cache: false}
"""


@pytest.fixture
def tracked(project: Project) -> Project:
    """`f` and `d`, and a stage that reads `in`."""
    write(project, {"f": "1", "d/a": "a", "d/b": "b", "in": "x", "dvcx.yaml": STAGES})
    add(project, ["f", "d"])
    repro(again(project))
    return again(project)


def test_nothing_to_record(tracked: Project) -> None:
    assert commit(tracked) == Committed((), ()) == commit(tracked, dry_run=True)


def test_changed_data(tracked: Project) -> None:
    write(tracked, {"f": "22", "d/a": "aa", "d/c": "c"})
    Path(tracked.root, "d/b").unlink()
    planned = commit(tracked, dry_run=True)
    assert {(item.path, item.state) for item in planned.items} == {("f", "updated"), ("d", "updated")}
    assert not status(tracked).clean
    assert commit(tracked) == planned
    assert status(again(tracked)).clean
    before = seen(tracked, "d")
    shutil.rmtree(Path(tracked.root, "d"))
    checkout(again(tracked))
    assert seen(tracked, "d") == before
    assert {"f.dvcx", "d.dvcx"} <= set(run_git(tracked, "diff", "--cached", "--name-only").split())


def test_targets(tracked: Project) -> None:
    write(tracked, {"f": "22", "d/a": "aa"})
    assert [item.path for item in commit(tracked, ["d"]).items] == ["d"]
    assert [change.path for change in status(again(tracked)).data] == ["f"]
    with pytest.raises(NotFound):
        commit(tracked, ["nothing"])


def test_deleted_data_stays_recorded(tracked: Project) -> None:
    Path(tracked.root, "f").unlink()
    assert commit(tracked).items == ()
    assert [change.state for change in status(again(tracked)).data] == ["deleted"]


def test_a_stage_as_if_it_had_just_run(tracked: Project) -> None:
    write(tracked, {"in": "changed", "out": "by hand", "m.json": "7\n"})
    planned = commit(tracked, dry_run=True)
    assert planned == Committed((), ("s",)) and not status(tracked).clean
    assert commit(tracked) == planned
    assert status(again(tracked)).clean and text(tracked, "count") == "run\n"
    Path(tracked.root, "out").unlink()
    assert [item.how for item in repro(again(tracked)).runs] == ["restored"]
    assert text(tracked, "out") == "by hand"
    (dep,) = lock(tracked)["s"]["deps"]
    assert dep["size"] == 7


def test_a_changed_command_is_taken_as_done(tracked: Project) -> None:
    write(tracked, {"dvcx.yaml": STAGES.replace("cp in out", "cat in > out")})
    assert commit(again(tracked), ["s"]).stages == ("s",)
    assert [item.how for item in repro(again(tracked)).runs] == ["unchanged"]


def test_a_stage_without_its_outputs(tracked: Project) -> None:
    write(tracked, {"in": "changed"})
    Path(tracked.root, "out").unlink()
    assert commit(tracked).stages == ()  # nothing to record, and nobody asked for it
    with pytest.raises(NotFound, match="out does not exist"):
        commit(tracked, ["s"])
    write(tracked, {"out": "back"})
    Path(tracked.root, "in").unlink()
    with pytest.raises(NotFound, match="in: is missing"):
        commit(tracked, ["s"])
    assert lock(tracked)["s"]["deps"][0]["size"] == 1


def test_edited_data_that_a_stage_reads(project: Project) -> None:
    write(project, {"in": "1", "dvcx.yaml": "stages:\n  s:\n    cmd: cp in out\n    deps: [in]\n    outs: [out]\n"})
    add(project, ["in"])
    repro(again(project))
    write(project, {"in": "2", "out": "2"})
    done = commit(again(project))
    assert [item.path for item in done.items] == ["in"] and done.stages == ("s",)
    assert status(again(project)).clean
