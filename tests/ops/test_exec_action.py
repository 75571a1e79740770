"""exec-action: an action runs by its key from a cache and a remote alone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dvcx.core.records import action_part, decode_asked
from dvcx.errors import IntegrityError, NotFound, StageFailed, UsageError
from dvcx.events import Noted
from dvcx.io.yaml import load_params
from dvcx.ops.add import add
from dvcx.ops.exec_action import exec_action, make_request
from dvcx.ops.executing import nested, params_text
from dvcx.ops.records import load
from dvcx.ops.repro import repro
from dvcx.project import Project
from tests.cli.runner import dvcx_run
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


def test_a_stage_is_no_key(shared: Project) -> None:
    with pytest.raises(UsageError, match="'make' is no key of an action") as caught:
        exec_action("make", project=shared)
    assert "--request make" in caught.value.hint


def test_variables_that_count_must_be_the_same(shared: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    write(shared, {"dvcx.yaml": "stages: {make: {cmd: echo $COUNTS > o, env: [COUNTS], outs: [o]}}"})
    monkeypatch.setenv("COUNTS", "one")
    key = make_request(again(shared), "make").key
    request = next(Path(shared.cache_dir).glob("actions/*/*.request.json")).read_bytes()
    assert b"one" not in request and decode_asked(request, "it").request.env["COUNTS"]
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
    return replace(project, config=project.config._replace(values=values))


# Terms: what is no part of the key


def test_the_terms_go_along_and_change_no_key(shared: Project) -> None:
    stage = "{cmd: 'echo x >> ../../tries; test $(wc -l < ../../tries) -ge 3 && echo 1 > o', outs: [o]"
    write(shared, {"dvcx.yaml": f"stages: {{make: {stage}}}}}"})
    plain = make_request(again(shared), "make").key
    write(shared, {"dvcx.yaml": f"stages: {{make: {stage}, retries: 2, timeout: 30}}}}"})
    key = make_request(again(shared), "make").key
    assert key == plain
    said: list[Any] = []
    assert exec_action(key, project=shared, emit=said.append).how == "ran"
    assert sum("attempt" in event.message for event in said if isinstance(event, Noted)) == 2
    tries = next(Path(shared.root).rglob("tries"))
    assert tries.read_text() == "x\n" * 3


def test_the_timeout_ends_it(shared: Project) -> None:
    write(shared, {"dvcx.yaml": "stages: {make: {cmd: sleep 60, timeout: 0.3, outs: [o]}}"})
    with pytest.raises(StageFailed, match="longer than its timeout"):
        exec_action(make_request(again(shared), "make").key, project=shared)


@pytest.mark.parametrize(
    ("cmd", "changed"),
    [
        ("echo 2 >> in; echo 1 > o", "in"),
        ("rm d/s/y; echo 1 > o", "d/s/y"),
        ("echo new > d/new; echo 1 > o", "d/new"),
        ("echo 'lr: 2' > params.yaml; echo 1 > o", "params.yaml"),
        ("cp in in2; mv in2 in; touch d/x; mkdir d/__pycache__; echo > d/__pycache__/a.pyc; echo 1 > o", ""),
    ],
)
def test_an_input_that_is_changed_keeps_nothing(shared: Project, cmd: str, changed: str) -> None:
    stage = f"{{cmd: \"{cmd}\", deps: [in, d], params: [lr], outs: [o]}}"
    write(shared, {"dvcx.yaml": f"stages: {{make: {stage}}}", "in": "1", "d/x": "1", "d/s/y": "2", "params.yaml": "lr: 1"})
    key = make_request(again(shared), "make").key
    if not changed:
        assert exec_action(key, project=shared).how == "ran"
        return
    with pytest.raises(StageFailed, match=f"changed its input {changed}"):
        exec_action(key, project=shared)
    assert not [path for path in Path(shared.cache_dir).glob("actions/*/*") if "request" not in path.name]
    assert text(shared, "in") == "1" and text(shared, "params.yaml") == "lr: 1"


def test_code_of_which_only_what_it_says_counts(shared: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    stage = "{cmd: python3 main.py > o, deps: ['py:main.py'], outs: [o]}"
    files: dict[str, str | bytes] = {"main.py": "import part\nprint(part.X)\n", "part.py": "X = 1\n"}
    write(shared, {"dvcx.yaml": f"stages: {{make: {stage}}}", **files})
    key = make_request(again(shared), "make", remote="origin").key
    write(shared, {"part.py": "# a comment\nX   = 1\n"})
    assert make_request(again(shared), "make", remote="origin").key == key
    cache = str(tmp_path_factory.mktemp("elsewhere") / "cache")
    assert exec_action(key, remote=url(shared), cache=cache).how == "ran"
    assert repro(again(shared)).runs[0].how == "restored" and text(shared, "o") == "1\n"
    # Other code under the same key is refused: the terms prove nothing.
    write(shared, {"part.py": "X = 2\n"})
    other = make_request(again(shared), "make", remote="origin").key
    mine, theirs = (next(Path(url(shared)).glob(f"actions/*/{one}.request.json")) for one in (key, other))
    mine.write_bytes(action_part(mine.read_bytes()) + b"\n" + theirs.read_bytes().partition(b"\n")[2])
    with pytest.raises(IntegrityError, match=r"part\.py: what its code says"):
        exec_action(key, remote=url(shared), cache=cache + "2", force=True)


def test_a_persisted_output_begins_anew_and_an_item_of_a_map_runs(shared: Project) -> None:
    pipeline = """\
stages:
  keep: {cmd: echo 1 >> o, outs: [{o: {persist: true}}]}
  each:
    foreach: glob:items/*.txt
    do: {cmd: "tr a-z A-Z < ${item} > ${item}.up", deps: ["${item}"], outs: ["${item}.up"]}
"""
    write(shared, {"dvcx.yaml": pipeline, "items/a.txt": "abc", "items/b.txt": "xyz", "o": "old\n"})
    key = make_request(again(shared), "keep").key
    exec_action(key, project=shared)
    (out,) = exec_action(key, project=shared).outs
    assert out.size == 2 and text(shared, "o") == "old\n"
    name = next(stage.address for stage in load(again(shared)).stages if "b.txt" in stage.address)
    (out,) = exec_action(make_request(again(shared), name).key, project=shared).outs
    assert out.path == "items/b.txt.up" and out.size == 3
    assert {run.how for run in repro(again(shared), [name]).runs} == {"restored"} and text(shared, "items/b.txt.up") == "XYZ"
