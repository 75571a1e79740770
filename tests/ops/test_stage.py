"""stage: writing stages beside what people wrote, listing them, refusing what contradicts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dvcx.errors import Conflict, NotFound, UnsafeInput, UsageError
from dvcx.ops import stage
from dvcx.ops.add import add
from dvcx.ops.stage import StageInfo, Stages
from dvcx.project import Project
from tests.ops.trying import again, run_git, text, write

BY_HAND = """\
# why this file is as it is
stages:
    prepare:   # four spaces, as somebody likes it
        cmd: >-
            python prepare.py
            --fast
        deps: [raw]
        outs:
        - clean   # the result
"""


def test_a_stage_is_written_and_staged_in_git(project: Project) -> None:
    done = stage.add(
        project, "train", "python train.py", deps=["data", "train.py"], outs="model", params=["lr,depth", "p.json:a.b"],
        metrics_no_cache=["m.json"], plots_no_cache=[Path("log.csv")], desc="the model",
    )  # fmt: skip
    assert done == stage.Written(
        StageInfo(
            "train", "dvcx.yaml", "python train.py", "", ("data", "train.py"), ("model", "m.json", "log.csv"),
            ("params.yaml:lr", "params.yaml:depth", "p.json:a.b"), "the model",
        ),
        False,
    )  # fmt: skip
    assert "dvcx.yaml" in run_git(project, "diff", "--cached", "--name-only").split()
    assert stage.list_(again(project)) == Stages((done.stage,))
    assert not Path(project.root, "dvcx.lock").exists()


def test_what_is_in_the_file_stays(project: Project) -> None:
    write(project, {"dvcx.yaml": BY_HAND})
    stage.add(project, "train", ["one", "two"], deps=["clean"], outs=["model"])
    after = text(project, "dvcx.yaml")
    assert after.startswith(BY_HAND.rstrip("\n")) and "train:" in after
    listed = stage.list_(again(project)).stages
    assert [(info.name, info.cmd) for info in listed] == [("prepare", "python prepare.py --fast"), ("train", ("one", "two"))]
    with pytest.raises(Conflict, match="has a stage 'train' already"):
        stage.add(again(project), "train", "other", outs=["model"])
    done = stage.add(again(project), "train", "other", outs=["model"], force=True)
    assert done.replaced and done.stage.cmd == "other"
    assert text(project, "dvcx.yaml").startswith(BY_HAND.rstrip("\n"))
    with pytest.raises(NotFound, match="there is no stage 'prepair' to depend on"):
        stage.add(again(project), "late", "x", deps=["stage:prepair"])
    done = stage.add(again(project), "prepare", "new", outs=["clean"], force=True)
    assert done.replaced and text(project, "dvcx.yaml").startswith("# why this file is as it is\n")
    assert [info.cmd for info in stage.list_(again(project)).stages] == ["new", "other"]


def test_in_another_directory_with_wdir(project: Project) -> None:
    done = stage.add(project, "s", "cmd", deps=["../raw"], outs=["out"], wdir="work", directory="sub")
    assert done.stage == StageInfo(
        "sub/dvcx.yaml:s", "sub/dvcx.yaml", "cmd", "sub/work", ("sub/raw",), ("sub/work/out",), (), ""
    )
    assert Path(project.root, "sub/dvcx.yaml").exists()


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"name": "-x"}, UsageError, "cannot name a stage"),
    ({"name": "a b"}, UsageError, "cannot name a stage"),
    ({"name": ""}, UsageError, "cannot name a stage"),
    ({"outs": ["../outside"]}, UnsafeInput, "leaves the project"),
    ({"outs": ["/etc/passwd"]}, UnsafeInput, "leaves the project"),
    ({"outs": [".git/x"]}, UnsafeInput, ".git"),
    ({"wdir": "../.."}, UnsafeInput, "leaves the project"),
    ({"outs": ["tracked"]}, Conflict, "two owners"),
    ({"outs": ["tracked/inside"]}, Conflict, "lies inside"),
    ({"outs": ["clean"]}, Conflict, "two owners"),
    ({"deps": ["made"], "outs": ["raw"]}, Conflict, "circle"),
    ({"deps": ["out"], "outs": ["out"]}, Conflict, "out"),
    ({"outs": ["a", "a"]}, UsageError, "listed twice"),
]


@pytest.mark.parametrize(("options", "error", "says"), REFUSED)
def test_what_contradicts_is_refused_and_nothing_is_written(
    project: Project, options: dict[str, Any], error: type[Exception], says: str
) -> None:
    write(project, {"dvcx.yaml": BY_HAND + "    second: {cmd: x, deps: [clean], outs: [made]}\n", "tracked": "t"})
    add(project, ["tracked"])
    before = text(project, "dvcx.yaml")
    with pytest.raises(error, match=says):
        stage.add(again(project), options.pop("name", "s"), "cmd", **options)
    assert text(project, "dvcx.yaml") == before


def test_a_broken_file_is_not_written_over(project: Project) -> None:
    from dvcx.errors import DvcxError

    for broken in ("stages: [", "stages:\n  a: {cmd: x}\nother: 1\n", "- a\n"):
        write(project, {"dvcx.yaml": broken})
        with pytest.raises(DvcxError, match=r"dvcx\.yaml"):
            stage.add(again(project), "s", "cmd", outs=["o"])
        assert text(project, "dvcx.yaml") == broken


def test_listing_nothing(project: Project) -> None:
    assert stage.list_(project) == Stages(())
