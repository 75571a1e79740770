"""The files of docs/how-to/any-tool.md, run as they stand: a stage in R, one in Spark, one in PyTorch, each with the real tool.

Nightly: the tools come from the package registry into an environment that the test makes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest

from tests.cli.runner import dvcx_run
from tests.test_docs import DOCS, blocks

pytestmark = pytest.mark.nightly

RAW = (
    "name,mpg,cyl,wt\n"
    "Merc 240D,24.4,4,3.19\nDatsun 710,22.8,4,2.32\nValiant,18.1,6,3.46\nbroken,,6,3.0\n"
    "Duster 360,14.3,8,3.57\nFiat 128,32.4,4,2.2\n"
)
CLEAN = "name,mpg,cyl,wt\n" + "".join(sorted(line + "\n" for line in RAW.splitlines()[1:] if "broken" not in line))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The files of the page in a project without git, and the table they begin with."""
    for block in blocks(DOCS / "how-to/any-tool.md"):
        if block.note.startswith("file: "):
            (tmp_path / block.note.removeprefix("file: ")).write_text("\n".join(block.lines) + "\n")
    (tmp_path / "raw.csv").write_text(RAW)
    _ok(tmp_path, "init", "--no-git")
    _ok(tmp_path, "add", "raw.csv")
    return tmp_path


def _ok(project: Path, *words: str, **more: str) -> str:
    ran = dvcx_run(*words, cwd=project, **more)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return str(ran.stdout)


def _turn(project: Path, stage: str, **more: str) -> dict[str, Any]:
    """Reproduce one stage alone; its turn."""
    told = json.loads(_ok(project, "repro", "--single-item", stage, "--json", **more))
    (turn,) = told["runs"]
    assert isinstance(turn, dict)
    return turn


def _runs_once_and_comes_back(project: Path, stage: str, out: str, **more: str) -> None:
    """The stage runs, is fresh then, its output comes back from the cache, and forced to run again it writes the same bytes."""
    assert _turn(project, stage, **more)["how"] == "ran"
    assert _turn(project, stage, **more)["how"] == "unchanged"
    lock = (project / "dvcx.lock").read_bytes()
    made = project / out
    shutil.rmtree(made) if made.is_dir() else made.unlink()
    assert _turn(project, stage, **more)["how"] == "restored"
    assert made.exists()
    _ok(project, "repro", "--single-item", "--force", stage, **more)
    assert (project / "dvcx.lock").read_bytes() == lock


def _environment(base: Path, *packages: str) -> dict[str, str]:
    """PATH with a fresh environment that has these packages first; skips where the registry does not give them."""
    where = base / "environment"
    venv.create(where, with_pip=True)
    pip = [str(where / "bin/python"), "-m", "pip", "install", "-q"]
    done = subprocess.run([*pip, *packages], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{' '.join(packages)} cannot be installed: {done.stderr.strip()[-200:]}")
    # Commands are to find the environment's python; dvcx itself runs with the tests' own.
    return {"PATH": f"{where / 'bin'}{os.pathsep}{os.environ['PATH']}"}


def test_r(project: Path) -> None:
    if shutil.which("Rscript") is None:
        pytest.skip("R is not installed")
    _runs_once_and_comes_back(project, "clean", "clean.csv")
    assert (project / "clean.csv").read_text() == CLEAN
    (project / "clean.R").write_text("stop('no')\n")
    ran = dvcx_run("repro", "clean", cwd=project)
    assert ran.returncode == 10 and (project / "clean.csv").read_text() == CLEAN


def test_spark(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java")
    more = _environment(tmp_path_factory.mktemp("spark"), "pyspark", "pyyaml")
    (project / "clean.csv").write_text(CLEAN)
    _runs_once_and_comes_back(project, "count", "by_cylinders", **more)
    parts = sorted((project / "by_cylinders").iterdir())
    rows = [line for part in parts for line in part.read_text().splitlines() if line != "cyl,count"]
    assert rows == ["4,3", "6,1", "8,1"] and len(parts) == 2


def test_torch(project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    more = _environment(tmp_path_factory.mktemp("torch"), "torch", "numpy", "pyyaml")
    (project / "clean.csv").write_text(CLEAN)
    _runs_once_and_comes_back(project, "train", "model.pt", **more)
    assert json.loads((project / "metrics.json").read_text())["loss"] > 0
    (project / "params.yaml").write_text((project / "params.yaml").read_text().replace("epochs: 50", "epochs: 60"))
    assert "params.yaml: train.epochs 50 → 60" in _ok(project, "why", "train")
