"""What starting up loads, and so costs."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.runner import dvcx_run, environment, modules_of

HEAVY = {"rich", "pandas", "fsspec", "obstore", "pydantic", "tomlkit", "asyncio", "logging"}


def _verbs(modules: set[str]) -> set[str]:
    from dvcx.cli.verbs import VERBS

    return {name for name, row in VERBS.items() if f"dvcx.cli.{row.module}" in modules}


def test_version_is_answered_without_typer(tmp_path: Path) -> None:
    from dvcx import __version__

    assert dvcx_run("--version", cwd=tmp_path).stdout == f"dvcx {__version__}\n"
    modules = modules_of("--version", cwd=tmp_path)
    assert "typer" not in modules
    assert "dvcx.cli.main" not in modules


def test_help_loads_no_verb(tmp_path: Path) -> None:
    modules = modules_of("--help", cwd=tmp_path)
    assert "dvcx.cli.main" in modules
    assert _verbs(modules) == set()
    assert not modules & HEAVY


def test_a_verb_loads_only_itself(tmp_path: Path) -> None:
    modules = modules_of("version", cwd=tmp_path)
    assert _verbs(modules) == {"version"}
    assert not modules & HEAVY


def test_status_loads_nothing_heavy(tmp_path: Path) -> None:
    dvcx_run("init", "--no-git", cwd=tmp_path)
    (tmp_path / "data.csv").write_text("a,b\n1,2\n")
    added = dvcx_run("add", "data.csv", cwd=tmp_path)
    assert added.returncode == 0, added.stderr
    modules = modules_of("status", cwd=tmp_path)
    assert "dvcx.ops.status" in modules
    assert _verbs(modules) == {"status"}
    assert not modules & HEAVY


def test_completion_of_verbs_loads_no_verb(tmp_path: Path) -> None:
    modules = modules_of("__complete", "1", "dvcx", "st", cwd=tmp_path)
    assert _verbs(modules) == set()
    assert not modules & HEAVY


@pytest.mark.benchmark
def test_status_starts_within_1_4_of_typer(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    dvcx_run("init", "--no-git", cwd=project)
    (project / "data.csv").write_text("a,b\n1,2\n")
    assert dvcx_run("add", "data.csv", cwd=project).returncode == 0
    env = environment(PYTHONPYCACHEPREFIX=str(tmp_path / "compiled"))
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    commands = {"typer": ["-c", "import typer"], "status": ["-m", "dvcx", "status"]}
    best = dict.fromkeys(commands, 1e9)
    for _ in range(15):
        for name, words in commands.items():
            start = time.perf_counter()
            subprocess.run([sys.executable, *words], cwd=project, env=env, check=True, capture_output=True)
            best[name] = min(best[name], time.perf_counter() - start)
    assert best["status"] <= 1.4 * best["typer"], best
