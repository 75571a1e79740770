"""Which program runs a command: found by where things lie, in trees made for the purpose; nothing is started."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import sys
from pathlib import Path

import pytest

from dvcx.io.interpreter import Fingerprints, program


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("python train.py", "python"),
        ("LR=1 exec python train.py", "python"),
        ("env -u X A=b /usr/bin/env python3 x", "python3"),
        ("nice -n 5 time python x", "python"),
        ("(cd x; python y)", ""),
        ("python 'x", ""),
        ("$PY x", ""),
        ("", ""),
    ],
)
def test_the_word_of_a_program(command: str, word: str) -> None:
    assert program(command) == word


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Environments as venv, conda, poetry, pixi, pyenv and R make them; each with one package."""
    virtualenv(tmp_path / "project/.venv", "3.12.1", "uv")
    virtualenv(tmp_path / "project/.pixi/envs/gpu", "3.10.9", "pixi")
    (tmp_path / "project/sub").mkdir()
    (tmp_path / "project/bin").mkdir()
    (tmp_path / "poem").mkdir()
    (tmp_path / "poem/pyproject.toml").write_text("")
    mark = base64.urlsafe_b64encode(hashlib.sha256(os.fsencode(os.path.realpath(tmp_path / "poem"))).digest()).decode()[:8]
    virtualenv(tmp_path / f".cache/pypoetry/virtualenvs/poem-{mark}-py3.9", "3.9.2", "poetry")
    conda = tmp_path / "conda/envs/torch"
    executable(conda / "bin/python3.11")
    (conda / "bin/python").symlink_to("python3.11")
    (conda / "lib/python3.11/site-packages").mkdir(parents=True)
    (conda / "conda-meta").mkdir()
    (conda / "conda-meta/torch-2.1.json").write_text("{}")
    executable(tmp_path / "conda/bin/conda")
    executable(tmp_path / ".pyenv/shims/python", "#!/usr/bin/env bash\n")
    executable(tmp_path / ".pyenv/versions/3.8.1/bin/python3.8")
    (tmp_path / ".pyenv/versions/3.8.1/bin/python").symlink_to("python3.8")
    (tmp_path / ".pyenv/version").write_text("3.8.1\n")
    executable(tmp_path / "r/bin/Rscript")
    for name, version in (("base", "4.3.1"), ("dplyr", "1.1.0")):
        (tmp_path / f"r/lib/R/library/{name}").mkdir(parents=True)
        (tmp_path / f"r/lib/R/library/{name}/DESCRIPTION").write_text(f"Package: {name}\nVersion: {version}\n")
    return tmp_path


def executable(path: Path, text: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


def virtualenv(path: Path, version: str, package: str) -> None:
    executable(path / "bin/python")
    (path / "pyvenv.cfg").write_text(f"version = {version}\n")
    (path / f"lib/python{version.rpartition('.')[0]}/site-packages/{package}-1.dist-info").mkdir(parents=True)


def prints(home: Path) -> Fingerprints:
    return Fingerprints({"HOME": str(home), "PATH": f"{home}/.pyenv/shims:{home}/conda/bin:{home}/r/bin:{home}/project/bin"})


@pytest.mark.parametrize(
    ("command", "directory", "version"),
    [
        ("uv run python train.py", "project/sub", "3.12.1"),
        ("uv run --with x --extra=y -q train.py --lr 1", "project", "3.12.1"),
        (".venv/bin/python -m pkg", "project", "3.12.1"),
        ("env A=1 .venv/bin/python x", "project", "3.12.1"),
        ("pixi run -e gpu python x", "project", "3.10.9"),
        ("poetry run python x", "poem", "3.9.2"),
        ("conda run --no-capture-output -n torch python x", "poem", "3.11"),
        ("conda run -p ../conda/envs/torch python x", "poem", "3.11"),
        ("python x", "poem", "3.8"),
        ("Rscript x.R", "poem", "4.3.1"),
    ],
)
def test_programs_that_lead_to_others(home: Path, command: str, directory: str, version: str) -> None:
    found = prints(home).of(command, str(home / directory))
    assert found.version == version and found.path.startswith(str(home)), found
    assert len(found.packages) == 32 or version == "3.8"


def test_scripts_are_run_by_what_their_first_line_says(home: Path) -> None:
    executable(home / "project/bin/tool", f"#!{home}/project/.venv/bin/python\n")
    executable(home / "project/run.py", "#!/usr/bin/env -S python -u\n")
    executable(home / "project/loop", f"#!{home}/project/loop\n")
    executable(home / "project/go.sh", "#!/bin/sh\npython x\n")
    found = prints(home)
    assert found.of("tool x", str(home / "poem")).version == found.of("uv run tool", str(home / "project")).version == "3.12.1"
    assert found.of("./run.py", str(home / "project")).version == "3.8"
    assert found.of("./loop", str(home / "project")).path == f"{home}/project/loop"
    assert found.of("./go.sh", str(home / "project")) == (f"{home}/project/go.sh", "", "")
    assert found.of("nothing-of-the-kind", str(home)) == ("", "", "")


def test_what_is_installed_tells_two_environments_apart(home: Path) -> None:
    where = str(home / "project")
    first = prints(home).of("uv run python x", where)
    (home / "project/.venv/lib/python3.12/site-packages/numpy-2.dist-info").mkdir()
    second = prints(home).of("uv run python x", where)
    assert first.path == second.path and first.packages != second.packages
    described = home / "r/lib/R/library/dplyr/DESCRIPTION"
    old = prints(home).of("Rscript x", where).packages
    described.write_text(described.read_text().replace("1.1.0", "1.2.0"))
    assert prints(home).of("Rscript x", where).packages != old


def test_the_real_ones() -> None:
    found = Fingerprints(os.environ).of(f"{sys.executable} -m pytest", "/")
    assert found.version.startswith(f"{sys.version_info.major}.{sys.version_info.minor}") and found.packages
    if shutil.which("Rscript"):
        assert Fingerprints(os.environ).of("Rscript x.R", "/").version.count(".") == 2
