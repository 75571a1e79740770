"""When a change of a data set of type dvc makes stages run, in dvcx and in DVC: a nightly comparison (`DVCX_TEST_DVC`)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from dvcx.ops.init import init
from dvcx.ops.repro import repro
from dvcx.project import open_project

DVC = os.environ.get("DVCX_TEST_DVC", "")
ENTRY = "datasets: [{{name: raw, type: dvc, url: {url}, path: data.csv, rev: {rev}}}]\n"
STAGES = "stages: {a: {cmd: echo x >> runs, deps: ['ds://raw']}}\n"


@pytest.mark.nightly
@pytest.mark.skipif(not DVC, reason="DVCX_TEST_DVC names no Python that has DVC")
def test_dvc_runs_the_same(tmp_path: Path) -> None:
    source = tmp_path / "source"
    _run(tmp_path, "git", "init", "-q", str(source))
    _run(source, DVC, "-m", "dvc", "init", "-q")
    for text in ("one", "two"):
        (source / "data.csv").write_text(text)
        _run(source, "git", "add", "-A")
        _run(source, "git", "commit", "-qm", text)
        _run(source, "git", "tag", text)
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    for root in (theirs, ours):
        _run(tmp_path, "git", "init", "-q", str(root))
        (root / "sub").mkdir()
    _run(theirs, DVC, "-m", "dvc", "init", "-q")
    init(str(ours))
    for rev in ("one", "one", "two", "two"):
        for root, file in ((theirs, "dvc.yaml"), (ours, "dvcx.yaml")):
            (root / file).write_text(ENTRY.format(url=source, rev=rev) + STAGES)
            (root / "sub" / file).write_text(STAGES)
        _run(theirs, DVC, "-m", "dvc", "ds", "update", "raw")
        _run(theirs, DVC, "-m", "dvc", "repro", "-P")
        assert repro(open_project(str(ours))).failed == 0
        assert _runs(ours) == _runs(theirs), rev
    assert _runs(ours) == ["x\nx\n", "x\nx\n"]


def _runs(root: Path) -> list[str]:
    return [(root / where / "runs").read_text() for where in ("", "sub")]


def _run(where: Path, *words: str) -> None:
    done = subprocess.run(
        words, cwd=where, capture_output=True, text=True, check=False, env={**os.environ, "DVC_NO_ANALYTICS": "1"}
    )
    assert done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
