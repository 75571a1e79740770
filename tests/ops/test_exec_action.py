"""exec-action: an action runs by its key from a cache and a remote alone; the runner of this machine speaks the protocol."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest

from dvcx.core.records import decode_request
from dvcx.errors import IntegrityError, NotFound, StageFailed, UsageError
from dvcx.io.runners.jobs import LocalJobs
from dvcx.io.runners.protocol import CANCELLED, DONE, FAILED, LOST, OVER, RUNNING, Job, JobState, Runner
from dvcx.io.yaml import load_params
from dvcx.ops import exec_action as module
from dvcx.ops.add import add
from dvcx.ops.exec_action import exec_action, make_request
from dvcx.ops.executing import nested, params_text
from dvcx.ops.repro import repro
from dvcx.project import Project
from tests.cli.runner import dvcx_run, environment
from tests.io.store.conftest import rclone, s3_server, seaweedfs  # noqa: F401
from tests.ops.trying import again, commit_all, text, with_remote, write
from tests.servers import S3Server

PIPELINE = """\
stages:
  make:
    cmd: sh ../tool.sh < d/x > out && grep lr ../params.yaml >> out
    wdir: w
    deps: [../tool.sh, d]
    params: [../params.yaml: [train.lr]]
    outs: [out]
"""


@pytest.fixture
def shared(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A stage that reads a script that git tracks, a tracked directory and a parameter; a directory as remote."""
    write(project, {"dvcx.yaml": PIPELINE, "tool.sh": "tr a-z A-Z\n", "w/d/x": "abc\n", "w/d/s/y": "2"})
    write(project, {"params.yaml": "# words\ntrain: {lr: 0.1, other: 1}\n"})
    add(project, ["w/d"])
    commit_all(project)
    return with_remote(project, tmp_path_factory.mktemp("remote"))


def url(project: Project) -> str:
    return str(project.config.remote("origin")["url"])


def test_by_key_alone(shared: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    key = make_request(shared, "make", remote="origin").key
    cache = str(tmp_path_factory.mktemp("elsewhere") / "cache")
    done = exec_action(key, remote=url(shared), cache=cache)
    assert (done.how, [out.path for out in done.outs]) == ("ran", ["w/out"])
    assert exec_action(key, remote=url(shared), cache=cache + "2").how == "known"
    assert os.listdir(f"{cache}-exec/.dvcx/tmp") == []
    # And the pipeline takes it as its own, in another clone as well.
    turn = repro(again(shared)).runs[0]
    assert turn.how == "restored" and text(shared, "w/out") == 'ABC\n  lr: 0.1\n'


def test_in_a_project(shared: Project) -> None:
    key = make_request(shared, "make").key
    assert exec_action(key, project=shared).how == "ran" and exec_action(key, project=shared).how == "known"
    assert exec_action(key, project=shared, force=True).how == "ran"


def test_what_does_not_prove_itself_is_refused(shared: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    key = make_request(shared, "make", remote="origin").key
    (path,) = Path(url(shared)).glob("actions/*/*.request.json")
    good = path.read_bytes()
    path.write_bytes(good.replace(b"tr a-z", b"rm -rf").replace(b"sh ../tool.sh", b"touch /tmp/x;"))
    cache = str(tmp_path_factory.mktemp("elsewhere") / "cache")
    with pytest.raises(IntegrityError, match="not the digest"):
        exec_action(key, remote=url(shared), cache=cache)
    path.write_bytes(good)
    for item in Path(url(shared)).glob("objects/*/*"):
        item.chmod(0o644)
        item.write_bytes(b"x" * item.stat().st_size)
    with pytest.raises(IntegrityError):
        exec_action(key, remote=url(shared), cache=cache)
    with pytest.raises(NotFound, match="holds no request"):
        exec_action("ab" * 32, remote=url(shared), cache=cache)
    with pytest.raises(UsageError, match="no cache"):
        exec_action(key, remote=url(shared))


def test_failures_keep_nothing(shared: Project) -> None:
    write(shared, {"tool.sh": "exit 3\n"})
    with pytest.raises(StageFailed, match="exited with 3"):
        exec_action(make_request(shared, "make").key, project=shared)
    write(shared, {"dvcx.yaml": "stages: {make: {cmd: 'true', outs: [o]}}"})
    with pytest.raises(StageFailed, match="did not write its output o"):
        exec_action(make_request(again(shared), "make").key, project=shared)
    assert [path.name for path in Path(shared.cache_dir).glob("actions/*/*") if "request" not in path.name] == []


def test_variables_that_count_must_be_the_same(shared: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write(shared, {"dvcx.yaml": "stages: {make: {cmd: echo $COUNTS > o, env: [COUNTS], outs: [o]}}"})
    monkeypatch.setenv("COUNTS", "one")
    key = make_request(again(shared), "make").key
    request = next(Path(shared.cache_dir).glob("actions/*/*.request.json")).read_bytes()
    assert b"one" not in request and decode_request(request, "it").env["COUNTS"]
    monkeypatch.setenv("COUNTS", "two")
    with pytest.raises(NotFound, match="COUNTS has another value here"):
        exec_action(key, project=shared)
    monkeypatch.setenv("COUNTS", "one")
    assert exec_action(key, project=shared).how == "ran"


VALUES: dict[str, Any] = {
    "train.lr": 1e-05,
    "train.layers.0.size": 3,
    "train.layers.1.size": 4,
    "name": "yes: 'é' \"q\" \n #",
    "flags": [True, False, -1.5, 1e20, "0x1", "1e3", "2020-01-01"],
    "deep": {"a": {"b c": 1}, "t": "true"},
    "levels": {"0": 0.5, "2": 0.9},
}


@pytest.mark.parametrize("file", ["params.yaml", "p.json", "p.toml"])
def test_params_files_hold_the_values(file: str) -> None:
    tree = nested(VALUES)
    assert tree["train"] == {"lr": 1e-05, "layers": [{"size": 3}, {"size": 4}]}
    assert tree["levels"] == VALUES["levels"], "a mapping that is a value stays one, whatever its keys"
    assert load_params(params_text(file, VALUES).encode(), file) == tree


def test_params_in_python_are_no_values() -> None:
    with pytest.raises(UsageError, match="cannot be written from their values"):
        params_text("p.py", {"a": 1})


# The runner of this machine


def until(runner: Runner, name: str) -> JobState:
    end = time.monotonic() + 30
    while (state := runner.poll([name])[0]).state not in OVER:
        assert time.monotonic() < end, state
        time.sleep(0.05)
    return state


def local(tmp_path: Path, *command: str) -> LocalJobs:
    return LocalJobs(str(tmp_path / "jobs"), lambda job: [*command, job.key], environment())


def test_jobs_are_told_by_whoever_asks(tmp_path: Path) -> None:
    runner = local(tmp_path, "sh", "-c", 'echo "job $0"; exit ${0#k}')
    names = runner.submit([Job("k0"), Job("k7")])
    assert [(until(runner, name).state, until(runner, name).code) for name in names] == [(DONE, 0), (FAILED, 7)]
    other = local(tmp_path)
    assert [state.key for state in other.poll(names)] == ["k0", "k7"]
    assert b"".join(other.logs(names[1])) == b"job k7\n" and b"".join(other.logs(names[1], 4)) == b"k7\n"
    assert other.poll(["20000101T000000-00"])[0].state == LOST
    with pytest.raises(NotFound):
        next(other.logs("none"))
    with pytest.raises(UsageError):
        other.poll(["../x"])


def test_a_job_is_ended_with_all_it_started(tmp_path: Path) -> None:
    runner = local(tmp_path, "sh", "-c", "sleep 60 & wait")
    (name,) = runner.submit([Job("k")])
    assert runner.poll([name])[0].state == RUNNING
    runner.cancel([name])
    assert until(runner, name).state == CANCELLED
    runner.cancel([name])  # fine when it is over


def test_a_job_is_an_exec_action(shared: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    key = make_request(shared, "make", remote="origin").key
    base = tmp_path_factory.mktemp("runner")
    runner = LocalJobs(
        f"{base}/jobs", lambda job: module.command_line(job.key, cache=f"{base}/cache", remote=job.remote), environment()
    )
    (name,) = runner.submit([Job(key, url(shared))])
    state = until(runner, name)
    assert state.state == DONE, b"".join(runner.logs(name))
    assert repro(again(shared)).runs[0].how == "restored"


def test_on_s3(shared: Project, s3_server: S3Server, tmp_path_factory: pytest.TempPathFactory) -> None:  # noqa: F811
    address, options = s3_server.fresh()
    variables = {f"DVCX_REMOTE_EXEC_{key.upper()}": value for key, value in options.items()}
    shared = with_remote_values(shared, address, options)
    key = make_request(shared, "make", remote="origin").key
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    ran = dvcx_run("exec-action", key, "--cache", "cache", "--remote", address, cwd=elsewhere, **variables)
    assert ran.returncode == 0 and "w/out" in ran.stdout, ran.stderr
    assert repro(shared).runs[0].how == "restored"


def with_remote_values(project: Project, address: str, options: dict[str, str]) -> Project:
    from dataclasses import replace

    values = {**project.config.values, "remote.origin.url": address}
    values.update({f"remote.origin.{key}": value for key, value in options.items()})
    return replace(project, config=replace(project.config, values=values))


