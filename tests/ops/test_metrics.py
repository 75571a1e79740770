from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pytest

from dvcx.errors import NotFound, UsageError
from dvcx.ops.metrics import metrics_diff as diff
from dvcx.ops.metrics import metrics_show as show
from dvcx.ops.push import push
from dvcx.ops.repro import repro
from dvcx.project import Project
from tests.ops.conftest import linked
from tests.ops.test_params import flat, tag
from tests.ops.trying import commit_all, with_remote, write

PIPELINE = """\
stages:
  train:
    cmd: cp in.json out/m.json && cp log.in log.csv && cp in.json plain.yaml
    deps: [in.json, log.in]
    outs: [out]
    metrics:
    - log.csv
    - plain.yaml: {cache: false}
"""


@pytest.fixture
def trained(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Revisions `one` and HEAD of a stage with a cached log.csv and a plain.yaml in git; all pushed."""
    project = with_remote(project, tmp_path_factory.mktemp("store"))
    text = PIPELINE.replace("cp in.json out/m.json", "mkdir -p out && cp in.json out/m.json")
    write(project, {"dvcx.yaml": text, "in.json": '{"acc": 0.5}', "log.in": "epoch,loss\n1,0.9\n2,0.7\n"})
    repro(project)
    push(project)
    commit_all(project, "one")
    tag(project, "one")
    write(project, {"in.json": '{"acc": 0.75, "f1": NaN}', "log.in": "epoch,loss\n1,0.8\n2,0.6\n3,0.4\n"})
    repro(project)
    push(project)
    commit_all(project, "two")
    return project


def test_what_is_declared_is_shown(trained: Project) -> None:
    assert flat(show(trained))[""] == {
        "log.csv:epoch": 3,
        "log.csv:loss": 0.4,
        "plain.yaml:acc": 0.75,
        "plain.yaml:f1": "NaN",
    }


def test_revisions_come_from_git_and_the_cache(trained: Project) -> None:
    found = flat(show(trained, all_tags=True))
    assert found["one"] == {"log.csv:epoch": 2, "log.csv:loss": 0.7, "plain.yaml:acc": 0.5}
    inside = flat(show(trained, ["out/m.json"], rev=["one", "HEAD"]))
    assert inside == {"one": {"out/m.json:acc": 0.5}, "HEAD": {"out/m.json:acc": 0.75, "out/m.json:f1": "NaN"}}
    for path in ("log.csv", "out/m.json"):
        assert Path(trained.root, path).exists()


def test_what_is_not_in_the_cache_comes_from_the_remote(trained: Project, tmp_path: Path) -> None:
    shutil.rmtree(trained.cache_dir)
    assert flat(show(trained, ["log.csv"], rev=["one"]))["one"] == {"log.csv:epoch": 2, "log.csv:loss": 0.7}
    shutil.rmtree(trained.config.remote("origin")["url"])
    found = show(trained, rev=["one"])
    assert flat(found)["one"] == {"plain.yaml:acc": 0.5}
    assert [(problem.rev, problem.path, problem.kind) for problem in found.problems] == [("one", "log.csv", "broken")]


def test_linked_metrics_are_read(trained: Project) -> None:
    from dvcx.ops.checkout import checkout

    Path(trained.root, "log.csv").unlink()
    checkout(linked(trained, "symlink"), ["log.csv"])
    assert Path(trained.root, "log.csv").is_symlink()
    assert flat(show(trained, ["log.csv"]))[""]["log.csv:loss"] == 0.4


def test_what_differs(trained: Project) -> None:
    rows = [(row.path, row.key, row.state, row.old, row.new, row.delta) for row in diff(trained, "one").differences]
    assert rows == [
        ("log.csv", "epoch", "modified", 2, 3, 1),
        ("log.csv", "loss", "modified", 0.7, 0.4, pytest.approx(-0.3)),
        ("plain.yaml", "acc", "modified", 0.5, 0.75, 0.25),
        ("plain.yaml", "f1", "added", None, "NaN", None),
    ]
    assert diff(trained).differences == ()
    assert len(diff(trained, all=True).differences) == 4


def test_what_is_gone_new_or_broken(trained: Project) -> None:
    write(trained, {"plain.yaml": "acc: [\n", "single.json": "0.5"})
    Path(trained.root, "log.csv").unlink()
    found = show(trained)
    assert {(problem.path, problem.kind) for problem in found.problems} == {("log.csv", "missing"), ("plain.yaml", "broken")}
    changed = diff(trained, "one")
    assert [(row.path, row.state) for row in changed.differences] == [("log.csv", "deleted"), ("log.csv", "deleted")]
    assert [problem.path for problem in changed.problems] == ["plain.yaml"]
    [row] = diff(trained, targets=["single.json"]).differences
    assert (row.key, row.state, row.new) == ("", "added", 0.5)
    write(trained, {"list.json": "[1, 2]"})
    [problem] = show(trained, ["list.json"]).problems
    assert "not a list" in problem.message
    with pytest.raises(NotFound, match="is at none of the revisions"):
        diff(trained, targets=["nowhere.json"])


def test_what_is_better_is_declared(trained: Project) -> None:
    text = Path(trained.root, "dvcx.yaml").read_text()
    text = text.replace("- log.csv\n", "- log.csv: {meta: {better: {loss: lower}}}\n")
    text = text.replace("{cache: false}", "{cache: false, meta: {better: higher, owner: ada}}")
    write(trained, {"dvcx.yaml": text + "metrics: [in.json]\n"})
    directions = {(row.path, row.key): (row.direction, row.verdict) for row in diff(trained, "one").differences}
    assert directions == {
        ("in.json", "acc"): ("", ""),
        ("in.json", "f1"): ("", ""),
        ("log.csv", "epoch"): ("", ""),
        ("log.csv", "loss"): ("lower", "better"),
        ("plain.yaml", "acc"): ("higher", "better"),
        ("plain.yaml", "f1"): ("higher", ""),
    }
    top = text + "metrics: [in.json: {meta: {better: {acc: higher}}}]\n"
    write(trained, {"dvcx.yaml": top})
    rows = {(row.path, row.key): (row.state, row.verdict) for row in diff(trained, "one", targets=["in.json"]).differences}
    assert rows == {("in.json", "acc"): ("modified", "better"), ("in.json", "f1"): ("added", "")}
    write(trained, {"dvcx.yaml": text.replace("better: higher", "better: up")})
    with pytest.raises(UsageError, match="'better' must be higher or lower, not 'up'"):
        diff(trained, "one")


@pytest.mark.nightly
def test_a_thousand_commits_take_two_seconds(project: Project, tmp_path: Path) -> None:
    """Every one with its own metrics, params and lock of eleven stages; sixty runs of git would take as long."""
    text = "stages:\n" + "".join(f"  s{n}: {{cmd: echo > o{n}, params: [lr], outs: [o{n}]}}\n" for n in range(10))
    write(project, {"dvcx.yaml": text + "metrics: [m.json]\n", "params.yaml": "lr: 123456\n"})
    repro(project)
    files = {"dvcx.yaml": Path(project.root, "dvcx.yaml").read_text(), "dvcx.lock": Path(project.root, "dvcx.lock").read_text()}
    feed = ""
    for count in range(1000):
        files |= {"m.json": f'{{"acc": {count}}}\n', "params.yaml": f"lr: {count}\n"}
        feed += f"commit refs/heads/main\ncommitter A <a@b> {1700000000 + count} +0000\ndata 1\nx\n"
        for path, data in files.items():
            data = data.replace("123456", str(count))
            feed += f"M 100644 inline {path}\ndata {len(data.encode())}\n{data}\n"
    subprocess.run(["git", "fast-import", "--quiet"], cwd=project.root, input=feed.encode(), check=True)
    began = time.perf_counter()
    found = show(project, all_commits=True)
    assert time.perf_counter() - began < 30
    assert [one.files[0].values["acc"] for one in found.revisions[1:]] == list(range(999, -1, -1))


def test_a_directory_is_its_files(trained: Project) -> None:
    write(trained, {"dvcx.yaml": "metrics: [scores: {meta: {better: higher}}]\n", "scores/a.json": "1", "scores/d/b.json": "2"})
    write(trained, {"scores/dvcx.yaml": "stages: {}\n"})  # a record is no metrics
    commit_all(trained, "scores")
    write(trained, {"scores/a.json": "3"})
    assert flat(show(trained, rev=["HEAD", "workspace"])) == {
        "HEAD": {"scores/a.json:": 1, "scores/d/b.json:": 2},
        "": {"scores/a.json:": 3, "scores/d/b.json:": 2},
    }
    [row] = diff(trained, "HEAD", "workspace").differences
    assert (row.path, row.verdict) == ("scores/a.json", "better")


BOMB = b"a: &a [x,x,x,x,x,x,x,x]\n"
BOMB += b"".join(b"%c: &%c [%s]\n" % (letter + 1, letter + 1, b",".join([b"*%c" % letter] * 9)) for letter in b"abcdefgh")


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("m.json", b" " * (1 << 20) + b"{}", "m.json': it is larger than 1.0 MiB"),
        ("m.json", b'{"a": ', "m.json:1:7: broken JSON"),
        ("m.json", b'{"a": 1, "a": 2}', "m.json:1:10: broken JSON: key 'a' twice"),
        ("m.json", bytes(range(256)), "m.json:2:118: not valid UTF-8"),
        ("m.json", b"[" * 100_000 + b"]" * 100_000, "m.json: nested deeper than 32 levels"),
        ("m.json", b"[1, 2]", "m.json: metrics must be 'key: value'"),
        ("m.yaml", BOMB, "values with aliases written out"),
        ("m.csv", b"a,b\n1,2,3\n", "m.csv:2: 3 cells, and the first row has 2"),
    ],
)  # fmt: skip
def test_a_hostile_file_is_one_clear_problem(project: Project, name: str, data: bytes, told: str) -> None:
    Path(project.root, name).write_bytes(data)
    write(project, {"good.json": '{"a": 1}'})
    found = show(project, [name, "good.json"])
    [problem] = found.problems
    assert told in problem.message and problem.hint
    assert flat(found)[""] == {"good.json:a": 1}
