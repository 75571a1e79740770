from __future__ import annotations

from collections.abc import Callable

import pytest

from dvcx.errors import Conflict, NotFound
from dvcx.ops.add import add
from dvcx.ops.dag import Graph, dag
from dvcx.project import Project

STAGES = """\
stages:
  train: {cmd: c, deps: [features, code.py], outs: [model]}
  extract: {cmd: b, deps: [raw/part], outs: [features]}
  alone: {cmd: a, outs: [x]}
"""


@pytest.fixture
def pipeline(project: Project, put: Callable[..., None]) -> Project:
    put({"dvcx.yaml": STAGES, "raw/part": "1", "unused.csv": "2"})
    add(project, ["raw", "unused.csv"])
    return project


def test_everything(pipeline: Project) -> None:
    found = dag(pipeline)
    assert found.nodes[0] == "raw"
    assert sorted(found.nodes) == ["alone", "extract", "raw", "train"]
    assert found.nodes.index("extract") < found.nodes.index("train")
    assert sorted(found.edges) == [("extract", "train"), ("raw", "extract")]


def test_targets(pipeline: Project) -> None:
    assert dag(pipeline, ["extract"]) == Graph(("raw", "extract"), (("raw", "extract"),))
    assert dag(pipeline, ["features"]) == dag(pipeline, ["extract"])
    assert sorted(dag(pipeline, ["raw.dvcx"]).nodes) == ["extract", "raw", "train"]
    assert dag(pipeline, ["unused.csv"]) == Graph((), ())
    with pytest.raises(NotFound):
        dag(pipeline, ["nothing"])


def test_a_path_called_like_a_stage(project: Project, put: Callable[..., None]) -> None:
    put({"dvcx.yaml": "stages:\n  data: {cmd: c, deps: [data], outs: [model]}\n", "data": "1"})
    add(project, ["data"])
    assert dag(project) == Graph(("data.dvcx", "data"), (("data.dvcx", "data"),))


def test_a_cycle(project: Project, put: Callable[..., None]) -> None:
    put({"dvcx.yaml": "stages:\n  a: {cmd: c, deps: [y], outs: [x]}\n  b: {cmd: c, deps: [x], outs: [y]}\n"})
    with pytest.raises(Conflict, match="circle"):
        dag(project)
