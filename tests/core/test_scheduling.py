"""Scheduling: what may run side by side, what waits, what is alone."""

from __future__ import annotations

from dvcx.core.pipeline.execution import Execution
from dvcx.core.pipeline.schema import Stage
from dvcx.core.scheduling import PASSED_OVER, Capacity, Queue

GIB = 1 << 30


def stage(name: str, **needs: object) -> Stage:
    return Stage(name, "dvcx.yaml", "true", execution=Execution(**needs))  # type: ignore[arg-type]


def queue(*stages: Stage, capacity: Capacity, **needs: tuple[str, ...]) -> Queue:
    return Queue(stages, {item.name: needs.get(item.name, ()) for item in stages}, capacity)


def start(work: Queue) -> list[str]:
    """All that may run now: looked at, and claimed."""
    running = []
    while (granted := work.take()) is not None:
        if granted.runs or work.claim(granted.stage.address):
            running.append(granted.stage.address)
    return running


def test_each_after_what_it_needs() -> None:
    work = queue(stage("a"), stage("b"), stage("c"), capacity=Capacity(4), c=("a", "b"))
    assert start(work) == ["a", "b"] and start(work) == []
    work.done("b")
    assert start(work) == [] and not work.over
    work.done("a")
    assert start(work) == ["c"]
    work.done("c")
    assert work.over and work.left == 0 and work.take() is None


def test_a_stage_that_is_up_to_date_never_waits_for_resources() -> None:
    work = queue(stage("a", cpu=2.0), stage("b", cpu=2.0), capacity=Capacity(2))
    first = work.take()
    assert first is not None and not first.runs and work.claim("a")
    second = work.take()
    assert second is not None and second.stage.name == "b" and not second.runs
    work.done("b")
    work.done("a")
    assert work.over


def test_so_many_at_a_time() -> None:
    work = queue(*(stage(name) for name in "abc"), capacity=Capacity(2))
    assert start(work) == ["a", "b"]
    work.done("a")
    assert start(work) == ["c"]


def test_resources_are_shared_out() -> None:
    capacity = Capacity(8, mem=4 * GIB, gpu=1.0, tokens={"licence": 2.0})
    for needs in ({"mem": 3 * GIB}, {"gpu": 1.0}, {"cpu": 5.0}, {"tokens": (("licence", 2.0),)}, {"tokens": (("other", 1.0),)}):
        work = queue(stage("a", **needs), stage("b", **needs), stage("c"), capacity=capacity)
        assert start(work) == ["a", "c"], needs
        work.done("a")
        assert start(work) == ["b"], needs
    halves = queue(stage("a", gpu=0.5), stage("b", gpu=0.5), stage("c", gpu=0.5), capacity=capacity)
    assert start(halves) == ["a", "b"]


def test_what_needs_more_than_there_is_runs_alone() -> None:
    for needs in ({"cpu": 16.0}, {"mem": 64 * GIB}, {"gpu": 1.0}, {"tokens": (("licence", 9.0),)}):
        capacity = Capacity(4, mem=4 * GIB, tokens={"licence": 2.0})
        work = queue(stage("a"), stage("big", **needs), stage("c"), capacity=capacity)
        assert start(work) == ["a", "c"], needs
        work.done("a")
        assert start(work) == []
        work.done("c")
        assert start(work) == ["big"]
        alone = queue(stage("big", **needs), stage("b"), capacity=capacity)
        assert start(alone) == ["big"]
        alone.done("big")
        assert start(alone) == ["b"]


def test_one_holder_of_a_mutex() -> None:
    work = queue(stage("a", mutex=("db",)), stage("b", mutex=("db", "x")), stage("c", mutex=("x",)), capacity=Capacity(4))
    assert start(work) == ["a", "c"]
    work.done("c")
    assert start(work) == []
    work.done("a")
    assert start(work) == ["b"]


def test_a_large_stage_is_not_passed_over_for_ever() -> None:
    small = [stage(f"s{number}") for number in range(60)]
    work = queue(small[0], stage("big", cpu=2.0), *small[1:], capacity=Capacity(2))
    running, ended = start(work), 0
    while "big" not in running:
        work.done(running.pop(0))
        running += start(work)
        ended += 1
        assert ended < 60
    assert ended <= PASSED_OVER + 3


def test_a_failure_blocks_only_what_needs_it() -> None:
    work = queue(*(stage(name) for name in "abcde"), capacity=Capacity(4), b=("a",), c=("b",), d=("c", "e"))
    assert start(work) == ["a", "e"]
    assert [item.name for item in work.failed("a")] == ["b", "c", "d"]
    work.done("e")
    assert start(work) == [] and work.over


def test_two_failures_block_a_stage_once() -> None:
    work = queue(*(stage(name) for name in "abc"), capacity=Capacity(4), c=("a", "b"))
    start(work)
    assert [item.name for item in work.failed("a")] == ["c"]
    assert work.failed("b") == () and work.over and work.left == 0


def test_a_stop_lets_what_runs_finish() -> None:
    work = queue(stage("a"), stage("b"), capacity=Capacity(1))
    assert start(work) == ["a"]
    work.stop()
    assert not work.over and work.take() is None
    work.done("a")
    assert work.over and work.left == 1
