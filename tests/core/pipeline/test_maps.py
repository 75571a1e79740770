"""Stages for files that other stages write: what has to run before those files are known."""

from __future__ import annotations

import pytest

from dvcx.core.pipeline.graph import build
from dvcx.core.pipeline.maps import first_part, makers_of, meant, unseen
from dvcx.core.pipeline.schema import Out, Stage, Want

MAPS = {"each": "raw/*.csv"}


def stage(name: str, deps: str = "", outs: str = "", wants: str = "") -> Stage:
    wanted = (Want("stage", wants, False, False),) if wants else ()
    return Stage(name, "dvcx.yaml", name, deps=tuple(deps.split()), outs=tuple(map(Out, outs.split())), wants=wanted)


@pytest.mark.parametrize(
    ("outs", "made"),
    [("raw", True), ("raw/a.csv", True), ("raw/a.txt", False), ("raws", False), ("raw/deep/a.csv", False), ("other", False)],
)
def test_who_writes_the_files_of_a_map(outs: str, made: bool) -> None:
    graph = build([stage("gen", outs=outs)])
    assert makers_of(graph, "each", "raw/*.csv") == ({"gen"} if made else set())


def test_what_needs_the_files_waits() -> None:
    graph = build(
        [
            stage("pre", outs="p"),
            stage("gen", "p", "raw"),
            stage("alone", outs="z"),
            stage("each@a.csv", "raw/a.csv", "out/a"),
            stage("end", "out", "end"),
        ]
    )
    everything = tuple(graph.stages.values())

    def first(*left: str) -> str:
        return " ".join(found.name for found in first_part(graph, [one for one in everything if one.name in left], MAPS))

    assert first(*graph.stages) == "pre gen alone"
    assert first("alone", "each@a.csv", "end") == "alone each@a.csv end"
    assert unseen(graph, "each", "raw/*.csv", ["raw/a.csv", "raw/b.csv"]) == ["raw/b.csv"]


def test_without_any_file_only_what_writes_them_runs() -> None:
    """Nobody can tell who reads the outputs of stages that are not there."""
    stages = [stage("pre", outs="p"), stage("gen", "p", "raw"), stage("alone", outs="z"), stage("end", wants="each")]
    graph = build(stages)
    assert [found.name for found in first_part(graph, stages, MAPS)] == ["pre", "gen"]
    assert [found.name for found in first_part(graph, stages[2:], MAPS)] == ["alone", "end"]


def test_a_stage_that_is_not_there_yet_stands_for_what_writes_its_file() -> None:
    graph = build([stage("gen", outs="raw"), stage("each@a.csv", "raw/a.csv", "out/a")])
    assert meant(graph, ["each@b.csv", "each", "each@a.csv", "x"], MAPS, ()) == ["gen", "each", "each@a.csv", "x"]
    assert meant(graph, ["each@b.csv"], MAPS, ("gen",)) == ["each@b.csv"]
