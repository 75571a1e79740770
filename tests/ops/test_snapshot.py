"""Snapshots: what stages are judged by; what is remembered of parsed files is never believed over the files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dvcx.errors import DvcxError
from dvcx.events import ignore
from dvcx.io.workspace import Rules
from dvcx.ops import records
from dvcx.ops.add import add
from dvcx.ops.placed import Parts
from dvcx.ops.snapshot import describe, read_params, snapshot, stage_paths
from dvcx.ops.status import status
from dvcx.project import Project
from tests.ops.trying import again, setting, write

STAGES = """\
stages:
  s:
    cmd: x
    deps: [in, dir/sub]
    params: [a.b]
    outs: [out]
"""


def test_what_is_seen(project: Project) -> None:
    write(project, {"dvcx.yaml": STAGES, "in": "1", "dir/sub/x": "xx", "params.yaml": "a: {b: 1}\n"})
    tracked = records.load(project)
    index = project.stat_index(ignore)
    parts = Parts(project, tracked, index, ignore)
    try:
        now = snapshot(project, tracked.stages, tracked.lock, index=index, rules=Rules(), emit=ignore, parts=parts)
    finally:
        index.close()
    assert sorted(stage_paths(tracked.stages)) == ["dir/sub", "in", "out"] == sorted(now.contents)
    assert now.contents["out"] is None
    sub, one = now.contents["dir/sub"], now.contents["in"]
    assert sub is not None and (sub.kind, sub.size, sub.files) == ("tree", 2, 1)
    assert one is not None and (one.kind, one.size) == ("blob", 1)
    assert now.params == {"params.yaml": {"a": {"b": 1}}} and now.details == {}


VALUES: dict[str, tuple[str, Any]] = {
    "p.yaml": ("a: 1\nb: [x, {c: null}]\n", {"a": 1, "b": ["x", {"c": None}]}),
    "p.json": ('{"a": 1.5}', {"a": 1.5}),
    "p.toml": ("[t]\nx = true\n", {"t": {"x": True}}),
}


@pytest.mark.parametrize("file", VALUES)
def test_params_and_their_memory(project: Project, file: str) -> None:
    data, expected = VALUES[file]
    write(project, {file: data})
    assert read_params(project, file) == expected == read_params(project, file)
    (memory,) = Path(project.state_dir).glob("params-*")
    key = memory.read_bytes().partition(b"\n")[0]
    for damage in (b"", b"garbage", key + b"\n", key + b"\n[1]", key + b"\n{", os.urandom(100)):
        memory.write_bytes(damage)
        assert read_params(project, file) == expected
    write(project, {file: data.replace("1", "2").replace("true", "false")})
    assert read_params(project, file) != expected
    Path(project.root, file).unlink()
    assert read_params(project, file) is None


@pytest.mark.parametrize("data", ["[1, 2]", "a: [", "a: 1\na: 2\n", "- x\n"])
def test_params_that_cannot_be_read_are_named(project: Project, data: str) -> None:
    write(project, {"sub/p.yaml": data})
    for _ in range(2):
        with pytest.raises(DvcxError, match=r"sub/p\.yaml"):
            read_params(project, "sub/p.yaml")


def test_stages_and_their_memory(project: Project) -> None:
    write(project, {"dvcx.yaml": STAGES})
    expected = records.load(project).stages
    (memory,) = Path(project.state_dir).glob("stages-*")
    good = memory.read_bytes()
    for damage in (b"", b"garbage", good[:-5], good.replace(b'"in"', b'"in2"'), os.urandom(100)):
        memory.write_bytes(damage)
        assert records.load(again(project)).stages == expected
    write(project, {"dvcx.yaml": STAGES.replace("in,", "other,")})
    memory.write_bytes(good)
    assert records.load(again(project)).stages[0].deps != expected[0].deps


def test_how_a_directory_differs(project: Project) -> None:
    write(project, {"d/a": "1", "d/b": "2"})
    add(project, ["d"])
    old = records.load(project).contents()["d"]
    write(project, {"d/a": "changed", "d/c": "3"})
    add(project, ["d"])
    new = records.load(project).contents()["d"]
    index = project.stat_index(ignore)
    parts = Parts(project, records.load(project), index, ignore)
    try:
        assert describe(project, "d", old, new, parts=parts, emit=ignore) == "1 file changed, 1 added"
        lost = setting(project)
        for path in Path(project.cache_dir, "objects").glob("*/*"):
            path.unlink()
        assert describe(lost, "d", old, new, parts=parts, emit=ignore) == ""
    finally:
        index.close()


def test_a_state_directory_that_cannot_be_written_answers_all_the_same(project: Project) -> None:
    write(project, {"dvcx.yaml": STAGES, "in": "1", "dir/sub/x": "x", "params.yaml": "a: {b: 1}\n"})
    expected = status(project)
    for path in Path(project.state_dir).iterdir():
        path.unlink()
    for name in ("statindex.sqlite", "tracked.json"):
        Path(project.state_dir, name).mkdir()
    assert status(again(project)) == expected == status(again(project))
