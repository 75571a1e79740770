"""Errors that are met after dvcx.yaml was read still name file, line and column, of both sides, and in included files."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dvcx.errors import Conflict, DvcxError
from dvcx.ops.repro import repro
from dvcx.ops.status import status
from dvcx.project import Project

Put = Callable[..., None]

TWO = """\
stages:
  one:
    cmd: x
    deps: [in]
    outs: [a, {}]
  two:
    foreach: [1]
    do:
      cmd: x
      deps: [b]
      outs:
      - {}
"""


def said(project: Project) -> str:
    texts = []
    # The second time the file is not read but remembered.
    for _ in range(2):
        with pytest.raises(DvcxError) as caught:
            status(project)
        texts.append(caught.value.message)
    assert texts[0] == texts[1]
    return texts[0]


@pytest.mark.parametrize(
    ("outs", "message"),
    [
        (("o", "o"), "'o' has two owners: stage 'one' (dvcx.yaml:5:15) and stage 'two@1' (dvcx.yaml:12:9)"),
        (("o/p", "o"), "'o/p' of stage 'one' (dvcx.yaml:5:15) lies inside 'o' of stage 'two@1' (dvcx.yaml:12:9)"),
        (("b", "in"), "the stages need one another in a circle: one → two@1 → one; two@1 reads b (dvcx.yaml:10:14), which one "
         "writes (dvcx.yaml:5:15); one reads in (dvcx.yaml:4:12), which two@1 writes (dvcx.yaml:12:9)"),
    ],
)  # fmt: skip
def test_both_sides_are_told(project: Project, put: Put, outs: tuple[str, str], message: str) -> None:
    put({"dvcx.yaml": TWO.format(*outs)})
    assert said(project) == message


def test_in_a_file_that_is_included(project: Project, put: Put) -> None:
    put({"dvcx.yaml": "include: more/s.yaml\nstages: {own: {cmd: x, outs: [o]}}\n", "more/s.yaml": TWO.format("c", "../o")})
    assert said(project) == "'o' has two owners: stage 'own' (dvcx.yaml:2:31) and stage 'two@1' (more/s.yaml:12:9)"
    put({"dvcx.yaml": "include: more/s.yaml\n"})
    runs = {run.stage: run.error for run in repro(project, keep_going=True).runs}
    assert runs["one"].startswith("more/s.yaml:4:12: stage 'one': more/in: is missing")


def test_when_a_stage_runs(project: Project, put: Put) -> None:
    stage = "stages:\n  a:\n    cmd: {}\n    deps:\n    - in\n    params:\n    - p.toml: [x]\n    outs: [o]\n"
    put({"dvcx.yaml": stage.format("touch o"), "in": ""})
    assert repro(project).runs[0].error.startswith("dvcx.yaml:7:7: stage 'a': p.toml: is missing")
    put({"p.toml": "y = 1"})
    assert repro(project).runs[0].error.startswith("dvcx.yaml:7:7: stage 'a': p.toml: x is missing")
    put({"p.toml": "x = 1", "dvcx.yaml": stage.format("echo >> in; touch o")})
    assert repro(project).runs[0].error.startswith("dvcx.yaml:5:7: stage 'a': its dependency in changed")
    put({"dvcx.yaml": stage.format("echo")})
    assert repro(project).runs[0].error.startswith("dvcx.yaml:8:12: stage 'a': the command did not write its output o")


def test_conflicts_are_conflicts(project: Project, put: Put) -> None:
    put({"dvcx.yaml": TWO.format("o", "o")})
    with pytest.raises(Conflict):
        status(project)
