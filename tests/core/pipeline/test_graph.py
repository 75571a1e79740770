"""The graph: edges by containment, one owner per path, cycles by name, order and targets."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcx.core.paths import contains
from dvcx.core.pipeline.graph import Graph, build, find, order
from dvcx.core.pipeline.schema import Out, ParamsOf, Stage
from dvcx.errors import Conflict, DvcxError, NotFound, UsageError


def stage(name: str, deps: str = "", outs: str = "", *, file: str = "dvcx.yaml", params: str = "", frozen: bool = False) -> Stage:
    of = tuple(ParamsOf(path) for path in params.split())
    return Stage(name, file, "x", deps=tuple(deps.split()), outs=tuple(map(Out, outs.split())), params=of, frozen=frozen)


def names(stages: tuple[Stage, ...]) -> str:
    return " ".join(stage.address for stage in stages)


CHAIN = [
    stage("report", "scores.json model", "report.md"),
    stage("train", "rows/part1 lib", "model"),
    stage("extract", "raw.csv", "rows"),
    stage("score", "model/weights data", "scores.json", params="params.yaml"),
    stage("tune", "raw.csv", "params.yaml"),
    stage("lone", "", "lone.txt"),
]
GRAPH = build(CHAIN, ["raw.csv", "data/a", "data/b", "unused"])


def test_edges_are_found_by_containment() -> None:
    assert GRAPH.upstream == {
        "extract": (),
        "train": ("extract",),
        "tune": (),
        "score": ("train", "tune"),
        "report": ("train", "score"),
        "lone": (),
    }
    assert GRAPH.downstream["train"] == ("score", "report")
    read = {name: paths for name, paths in GRAPH.sources.items() if paths}
    assert read == {"extract": ("raw.csv",), "tune": ("raw.csv",), "score": ("data/a", "data/b")}
    assert GRAPH.owners["rows"] == "extract"


def test_an_output_inside_a_dependency() -> None:
    graph = build([stage("all", "parts", "sum"), stage("a", "", "parts/a"), stage("b", "", "parts/b"), stage("c", "", "parts-c")])
    assert graph.upstream["all"] == ("a", "b")


@pytest.mark.parametrize(
    ("targets", "options", "expected"),
    [
        ([], {}, "extract train tune score report lone"),
        (["score"], {}, "extract train tune score"),
        (["score"], {"single": True}, "score"),
        (["train"], {"downstream": True}, "train score report"),
        (["lone", "extract"], {}, "extract lone"),
        (["model"], {}, "extract train"),
        (["model/weights"], {"single": True}, "train"),
        (["./rows/"], {"single": True}, "extract"),
        (["dvcx.yaml"], {"single": True}, "extract train tune score report lone"),
    ],
)  # fmt: skip
def test_order(targets: list[str], options: dict[str, bool], expected: str) -> None:
    assert names(order(GRAPH, targets, **options)) == expected


def test_what_a_frozen_stage_needs_is_left_out() -> None:
    graph = build([stage("a", "", "x"), stage("b", "x", "y", frozen=True), stage("c", "y", "z")])
    assert names(order(graph, ["c"])) == "b c"
    assert names(order(graph, ["a"], downstream=True)) == "a b c"


def test_targets_in_several_files() -> None:
    graph = build([stage("a", "", "x"), stage("a", "", "s/x", file="s/dvcx.yaml"), stage("b", "", "s/y", file="s/dvcx.yaml"),
                   stage("b", "", "t/y", file="t/dvcx.yaml"), stage("c", "", "t/z", file="t/dvcx.yaml")])  # fmt: skip
    assert names(find(graph, "a")) == "a"
    assert names(find(graph, "s/dvcx.yaml:a")) == "s/dvcx.yaml:a"
    assert names(find(graph, "c")) == "t/dvcx.yaml:c"
    assert names(find(graph, "s/dvcx.yaml")) == "s/dvcx.yaml:a s/dvcx.yaml:b"
    assert names(find(graph, "s")) == "s/dvcx.yaml:a s/dvcx.yaml:b"
    with pytest.raises(UsageError) as caught:
        find(graph, "b")
    assert caught.value.hint == "say which: s/dvcx.yaml:b or t/dvcx.yaml:b"


@pytest.mark.parametrize(("target", "hint"), [("tarin", "did you mean 'train'?"), ("zzzzzz", "dvcx stage list"), ("", "list")])
def test_an_unknown_target(target: str, hint: str) -> None:
    with pytest.raises(NotFound) as caught:
        find(GRAPH, target)
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("stages", "pointers", "says"),
    [
        ([stage("a", "", "x"), stage("b", "", "x")], [], "'x' has two owners: stage 'a' and stage 'b'"),
        ([stage("a", "", "d"), stage("b", "", "d/x")], [], "'d/x' of stage 'b' lies inside 'd' of stage 'a'"),
        ([stage("a", "", "d d/x")], [], "'d/x' of stage 'a' lies inside 'd' of stage 'a'"),
        ([stage("a", "", "x")], ["x"], "'x' has two owners: 'x.dvcx' and stage 'a'"),
        ([stage("a", "", "d/x/y")], ["d"], "'d/x/y' of stage 'a' lies inside 'd' of 'd.dvcx'"),
        ([stage("a", "", "d")], ["d/x"], "'d/x' of 'd/x.dvcx' lies inside 'd' of stage 'a'"),
        ([], ["d", "d/x"], "'d/x' of 'd/x.dvcx' lies inside 'd' of 'd.dvcx'"),
        ([stage("a", "", "d")], ["d-x", "d.x", "d/x"], "'d/x' of 'd/x.dvcx' lies inside 'd' of stage 'a'"),
        ([stage("a"), stage("a")], [], "stage 'a' is defined twice"),
    ],
)
def test_one_owner_per_path(stages: list[Stage], pointers: list[str], says: str) -> None:
    with pytest.raises(Conflict) as caught:
        build(stages, pointers)
    assert caught.value.message == says
    assert caught.value.exit_code == 11


def test_neighbours_in_spelling_are_no_conflict() -> None:
    build([stage("a", "", "d"), stage("b", "", "d-x d.y d0 dd/x")], ["d!", "e/d"])


@pytest.mark.parametrize(
    ("stages", "loop"),
    [
        ([stage("b", "x", "y"), stage("a", "y", "x")], "a → b → a"),
        ([stage("c", "y z", "x"), stage("b", "x", "y"), stage("a", "y", "q"), stage("e", "", "z")], "b → c → b"),
        ([stage("s1", "c", "a"), stage("s2", "a/x", "b/y"), stage("s3", "b", "c"), stage("s4", "c", "d")], "s1 → s2 → s3 → s1"),
        ([stage("a", "d/x", "d")], "a → a"),
    ],
)
def test_a_cycle_names_the_loop(stages: list[Stage], loop: str) -> None:
    with pytest.raises(Conflict) as caught:
        build(stages)
    assert f": {loop}; " in caught.value.message + "; "
    assert "which" in caught.value.message


def test_a_thousand_stages_are_quick() -> None:
    chain = [stage(f"s{n}", f"d{n}/in all", f"d{n + 1}") for n in range(1000)]
    began = time.perf_counter()
    graph = build(chain, [f"all/{n}" for n in range(50)])
    assert len(order(graph, ["s999"])) == 1000
    assert time.perf_counter() - began < 30


_paths = st.lists(st.sampled_from(["a", "b", "a-", "a.b"]), min_size=1, max_size=3).map("/".join)


_some = st.lists(_paths, max_size=2)


@given(st.lists(st.tuples(_some, _some), max_size=5), st.lists(_paths, max_size=2, unique=True))
def test_edges_and_owners_against_every_pair(rows: list[tuple[list[str], list[str]]], pointers: list[str]) -> None:
    stages = [stage(f"s{at}", " ".join(deps), " ".join(outs)) for at, (deps, outs) in enumerate(rows)]
    owned = [(out.path, s.address) for s in stages for out in s.outs] + [(path, "") for path in pointers]
    clash = any(contains(a, b) for i, (a, _) in enumerate(owned) for j, (b, _) in enumerate(owned) if i != j)
    needs = {
        s.address: {owner for path, owner in owned if owner for dep in s.deps if contains(dep, path) or contains(path, dep)}
        for s in stages
    }
    try:
        graph: Graph = build(stages, pointers)
    except DvcxError as error:
        assert isinstance(error, Conflict)
        assert clash == ("circle" not in error.message)
        return
    assert not clash
    assert {name: set(up) for name, up in graph.upstream.items()} == needs
    position = {s.address: at for at, s in enumerate(order(graph))}
    assert all(position[up] < position[name] for name in needs for up in needs[name])
