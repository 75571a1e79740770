"""Runners: the contract each must keep, the slots of this machine, and `repro` through any of them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dvcx.errors import DvcxError, NotFound, UsageError
from dvcx.io.runners.jobs import LocalJobs, Slots, keeper_is_there
from dvcx.io.runners.protocol import CANCELLED, DONE, FAILED, LOST, OVER, RUNNING, WAITING, Job, JobState, Runner
from dvcx.ops import exec_action as module
from dvcx.ops.exec_action import exec_action, make_request
from dvcx.ops.repro import repro
from dvcx.ops.status import status
from dvcx.project import Project
from tests.cli.runner import environment
from tests.ops.trying import again, commit_all, setting, text, with_remote, write

PIPELINE = """\
stages:
  upper: {cmd: "tr a-z A-Z < in > mid; echo hello", deps: [in], outs: [mid]}
  first: {cmd: head -c 1 mid > one, deps: [mid], outs: [one], resources: {cpu: 64}}
  last: {cmd: cat one params.yaml > end, deps: [one], params: [lr], outs: [end]}
"""


def until(runner: Runner, name: str, *states: str) -> JobState:
    end = time.monotonic() + 30
    while (state := runner.poll([name])[0]).state not in (states or OVER):
        assert time.monotonic() < end, state
        time.sleep(0.02)
    return state


def local(tmp_path: Path, *command: str, cpu: float = 64, memory: int = 0) -> LocalJobs:
    slots = Slots(cpu, memory)
    return LocalJobs(str(tmp_path / "jobs"), lambda job: [*command, job.key], environment(), slots=slots, cwd=str(tmp_path))


class Threads:
    """A runner in one file: jobs are threads of this process that know a directory for a cache, and a remote's address."""

    shares_cache = False

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._states: dict[str, JobState] = {}
        self.polls: list[int] = []

    def submit(self, jobs: Sequence[Job]) -> tuple[str, ...]:
        names = tuple(f"t{len(self._states) + number}" for number in range(len(jobs)))
        for name, job in zip(names, jobs, strict=True):
            self._states[name] = JobState(name, job.key, RUNNING, 0, time.time())
            threading.Thread(target=self._run, args=(name, job)).start()
        return names

    def _run(self, name: str, job: Job) -> None:
        code = 0
        try:
            exec_action(job.key, remote=job.remote, cache=str(self._directory / name), force=job.force)
        except DvcxError as error:
            code = error.exit_code
        began = self._states[name].began
        self._states[name] = JobState(name, job.key, FAILED if code else DONE, code, began, time.time())

    def poll(self, ids: Sequence[str]) -> tuple[JobState, ...]:
        self.polls.append(len(ids))
        return tuple(self._states.get(name, JobState(name, "", LOST)) for name in ids)

    def cancel(self, ids: Sequence[str]) -> None:
        """Threads cannot be ended: they are waited for."""

    def logs(self, id: str, start: int = 0) -> Iterator[bytes]:
        if id not in self._states:
            raise NotFound(f"no job {id}")
        yield f"job {id}\\n".encode()[start:]


@pytest.fixture
def shared(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    write(project, {"dvcx.yaml": PIPELINE, "in": "abc", "params.yaml": "lr: 1\n"})
    commit_all(project)
    return with_remote(project, tmp_path_factory.mktemp("remote"))


# The contract


def make_local(project: Project, base: Path) -> Runner:
    return LocalJobs(
        f"{base}/jobs", lambda job: module.command_line(job, cache=f"{base}/cache"), environment(), slots=Slots(2), cwd=str(base)
    )


@pytest.mark.parametrize("make", [make_local, lambda project, base: Threads(base)], ids=["local", "threads"])
def test_every_runner_keeps_the_contract(
    shared: Project, tmp_path_factory: pytest.TempPathFactory, make: Callable[[Project, Path], Runner]
) -> None:
    runner = make(shared, tmp_path_factory.mktemp("runner"))
    url = str(shared.config.remote("origin")["url"])
    good = Job(make_request(shared, "upper", remote="origin").key, url)
    names = runner.submit([good, Job("00" * 32, url)])
    assert len(set(names)) == 2 and runner.submit([]) == () and runner.poll([]) == ()
    ended = [until(runner, name) for name in names]
    assert [(state.id, state.key, state.state) for state in ended] == [
        (names[0], good.key, DONE),
        (names[1], "00" * 32, FAILED),
    ]
    assert ended[0].code == 0 and ended[1].code == NotFound.exit_code and 0 < ended[0].began <= ended[0].ended + 1
    assert runner.poll(names[::-1]) == tuple(ended[::-1])  # in the order asked
    whole = b"".join(runner.logs(names[0]))
    assert whole and b"".join(runner.logs(names[0], 3)) == whole[3:]
    runner.cancel(names)  # fine for what is over
    assert runner.poll(names) == tuple(ended) and runner.poll(["20000101T000000-00"])[0].state == LOST
    with pytest.raises(NotFound):
        next(iter(runner.logs("none")))
    assert repro(again(shared), ["upper"]).runs[0].how == "restored"


# This machine


def test_jobs_are_told_by_whoever_asks(tmp_path: Path) -> None:
    runner = local(tmp_path, "sh", "-c", 'echo "job $0"; exit ${0#k}')
    names = runner.submit([Job("k0"), Job("k7")])
    assert [(until(runner, name).state, until(runner, name).code) for name in names] == [(DONE, 0), (FAILED, 7)]
    other = local(tmp_path)
    assert [state.key for state in other.poll(names)] == ["k0", "k7"]
    assert b"".join(other.logs(names[1])) == b"job k7\n" and b"".join(other.logs(names[1], 4)) == b"k7\n"
    with pytest.raises(UsageError):
        other.poll(["../x"])


def test_jobs_wait_for_room_and_start_though_nobody_asks(tmp_path: Path) -> None:
    script = 'echo "$0 $(ls active | wc -l)" >> seen; touch active/$0; while [ ! -e go-$0 ]; do sleep 0.02; done; rm active/$0'
    (tmp_path / "active").mkdir()
    runner = local(tmp_path, "sh", "-c", script, cpu=2, memory=100)
    names = runner.submit([Job("a"), Job("b", memory=60), Job("c", memory=60), Job("d")])
    until(runner, names[1], RUNNING)
    time.sleep(0.3)
    assert [state.state for state in runner.poll(names)] == [RUNNING, RUNNING, WAITING, WAITING]
    assert b"".join(runner.logs(names[2])) == b""
    (tmp_path / "go-a").touch()  # a core is free, but c needs memory, and d came later
    until(runner, names[0])
    time.sleep(0.3)
    assert [state.state for state in runner.poll(names)] == [DONE, RUNNING, WAITING, WAITING]
    for name in "bcd":
        (tmp_path / f"go-{name}").touch()
    del runner  # whoever submitted them asks no more
    end = time.monotonic() + 20
    while len((tmp_path / "seen").read_text().split("\n")) < 5 or list((tmp_path / "active").iterdir()):
        assert time.monotonic() < end
        time.sleep(0.05)
    rows = [line.split() for line in (tmp_path / "seen").read_text().splitlines()]
    assert sorted(row[0] for row in rows[2:]) == ["c", "d"] and all(int(row[1]) < 2 for row in rows)
    assert [until(local(tmp_path), name).state for name in names] == [DONE] * 4


@pytest.mark.nightly
def test_a_keeper_that_was_killed_is_replaced(tmp_path: Path) -> None:
    import os
    import signal

    runner = local(tmp_path, "sh", "-c", "while [ ! -e go ]; do sleep 0.02; done", cpu=1)
    names = runner.submit([Job("a"), Job("b")])
    until(runner, names[0], RUNNING)
    (note,) = (tmp_path / "jobs").glob("keeper-*.lock")
    os.kill(int(note.read_text().split()[1]), signal.SIGKILL)
    while keeper_is_there(str(tmp_path / "jobs"), note.name[7:-5]):
        time.sleep(0.02)
    fresh = local(tmp_path, "sh", "-c", "while [ ! -e go ]; do sleep 0.02; done", cpu=1)
    assert [state.state for state in fresh.poll(names)] == [RUNNING, WAITING]  # and a new keeper comes
    time.sleep(0.5)
    assert [state.state for state in fresh.poll(names)] == [RUNNING, WAITING]  # which counts what runs
    (tmp_path / "go").touch()
    assert [until(fresh, name).state for name in names] == [DONE, DONE]


def test_a_job_is_ended_with_all_it_started(tmp_path: Path) -> None:
    runner = local(tmp_path, "sh", "-c", "sleep 60 & wait", cpu=1)
    names = runner.submit([Job("k"), Job("l"), Job("m", timeout=0.3)])
    until(runner, names[0], RUNNING)
    runner.cancel(names[:2])
    assert [until(runner, name).state for name in names[:2]] == [CANCELLED, CANCELLED]
    late = until(runner, names[2])
    assert (late.state, late.code) == (FAILED, 124)
    runner.cancel(names)


def test_an_action_under_way_is_not_begun_twice(tmp_path: Path) -> None:
    runner = local(tmp_path, "sh", "-c", "sleep 0.5")
    first = runner.submit([Job("k")])
    other = LocalJobs(str(tmp_path / "jobs"), lambda job: ["true"], {**environment(), "OTHER": "1"}, slots=Slots(64))
    assert first == runner.submit([Job("k")]) == other.submit([Job("k")]) != runner.submit([Job("k", force=True)])


# repro


def hows(project: Project, runner: Any, **options: Any) -> list[str]:
    return [run.how for run in repro(again(project), runner=runner, **options).runs]


def test_repro_through_any_runner(shared: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    runner = Threads(tmp_path_factory.mktemp("threads"))
    done = repro(again(shared), runner=runner)
    assert [run.how for run in done.runs] == ["ran"] * 3 and text(shared, "end") == "Alr: 1\n"
    assert status(again(shared)).clean and max(runner.polls) == 1
    assert hows(shared, runner) == ["unchanged"] * 3 and hows(shared, runner, force=True) == ["ran"] * 3


def test_a_job_that_fails_leaves_all_as_it_was(shared: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    runner = Threads(tmp_path_factory.mktemp("threads"))
    repro(again(shared), runner=runner)
    before = text(shared, "dvcx.lock")
    write(shared, {"dvcx.yaml": PIPELINE.replace("head -c 1 mid > one", "exit 3")})
    done = repro(again(shared), runner=runner)
    assert [run.how for run in done.runs] == ["unchanged", "failed"] and "its job t3 exited with 10" in done.runs[1].error
    assert text(shared, "dvcx.lock") == before and text(shared, "one") == "A"


def test_many_stages_are_asked_for_at_once(project: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    shared = with_remote(project, tmp_path_factory.mktemp("remote"))
    go = tmp_path_factory.mktemp("go") / "go"
    wait = f"while [ ! -e {go} ]; do sleep 0.02; done"
    stages = "".join(f"  s{n}: {{cmd: '{wait}; echo {n} > o{n}', outs: [o{n}]}}\n" for n in range(6))
    write(shared, {"dvcx.yaml": f"stages:\n{stages}"})

    class Opening(Threads):
        def poll(self, ids: Sequence[str]) -> tuple[JobState, ...]:
            if len(ids) == 6:
                go.touch()
            return super().poll(ids)

    assert hows(shared, Opening(tmp_path_factory.mktemp("threads"))) == ["ran"] * 6


def test_repro_with_the_runner_of_this_machine(shared: Project) -> None:
    kept = PIPELINE + "  here: {cmd: echo 1 >> p, outs: [{p: {persist: true}}]}\n"
    write(shared, {"dvcx.yaml": kept, "p": "0\n"})
    asked = setting(again(shared), core_runner="local")
    done = repro(asked)
    assert [run.how for run in done.runs] == ["ran"] * 4, done
    assert text(shared, "end") == "Alr: 1\n" and text(shared, "p") == "0\n1\n"  # that one needs its old output
    assert len(list(Path(shared.state_dir, "jobs").glob("*/job.json"))) == 3
    assert hows(shared, "local") == ["unchanged"] * 4
    write(shared, {"dvcx.yaml": kept.replace("head -c 1 mid > one", "'echo error: mine; exit 3'")})
    failed = repro(again(shared), ["first"], runner="local")
    assert "stage 'first': the command exited with 3: echo error: mine; exit 3 (job " in failed.runs[-1].error
    with pytest.raises(UsageError, match="no runner is called 'locla'"):
        repro(again(shared), runner="locla")
