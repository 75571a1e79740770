"""What a shell is told when it asks how a word may go on."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.cli.complete import candidates
from dvcx.cli.completion import SCRIPTS
from tests.cli.runner import SOURCE, dvcx_called, dvcx_run, environment


def _names(*before: str, word: str = "") -> list[str]:
    return [name for name, _ in candidates(list(before), word)]


def test_verbs() -> None:
    assert _names(word="st") == ["status", "stage"]
    assert "completion" in _names()
    assert _names(word="--v") == ["--version"]


def test_verbs_of_a_group() -> None:
    assert _names("remote", word="") == ["add", "list", "remove", "default", "modify", "check"]
    assert _names("remote", word="d") == ["default"]
    assert _names("nonsense") == []


def test_options() -> None:
    assert _names("checkout", word="--f") == ["--force"]
    assert "--no-cache" not in _names("run", word="--")
    assert "--json" in _names("rm", word="--")
    assert "--default" in _names("remote", "add", word="--")


def test_choices() -> None:
    assert _names("completion", word="") == ["bash", "zsh", "fish"]
    assert _names("init", "--hash", word="b") == ["blake3"]


def test_settings() -> None:
    assert _names("config", "get", word="core.au") == ["core.autostage"]


def test_what_a_project_has(tmp_path: Path, git: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    git("init", "-q")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "data.csv").write_text("1\n")
    for words in (
        ["init"],
        ["add", "sub/data.csv"],
        ["stage", "add", "-n", "train", "-d", "sub/data.csv", "-o", "out", "true"],
        ["remote", "add", "origin", "store"],
    ):
        assert dvcx_called(*words, cwd=tmp_path).returncode == 0
    git("commit", "-qm", "one")
    git("tag", "v1.0")
    monkeypatch.chdir(tmp_path)
    assert set(_names("status")) >= {"sub/data.csv", "train"}
    assert _names("push", "--remote") == ["origin"]
    assert _names("push", "-r", word="or") == ["origin"]
    assert _names("remote", "default") == ["origin"]
    assert "region" in _names("remote", "modify", "origin") and "core.hash" not in _names("remote", "modify", "origin")
    for words in (["diff"], ["metrics", "diff", "main"], ["plots", "diff", "main", "main"], ["list", "--rev"]):
        assert _names(*words, word="v") == ["v1.0"], words
    for words in (["log"], ["runs"], ["show"], ["verify"], ["exec-action"]):
        assert _names(*words) == ["train"], words
    assert "confusion" in _names("plots", "templates") and "linear" in _names("plots", "show", "-t")
    # The shell itself knows files.
    assert _names("diff", "--target", word="sub") == ["sub/data.csv"] and not _names("metrics", "diff", "--target")
    monkeypatch.chdir(tmp_path / "sub")
    assert "data.csv" in _names("status", word="da")


def test_errors_are_silent(tmp_path: Path) -> None:
    for words in (
        ("__complete",),
        ("__complete", "x"),
        ("__complete", "2", "dvcx", "status"),
        ("__complete", "9", "dvcx", "push"),
    ):
        ran = dvcx_run(*words, cwd=tmp_path)
        assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_scripts(tmp_path: Path, shell: str) -> None:
    ran = dvcx_called("completion", shell, cwd=tmp_path)
    assert ran.returncode == 0
    assert "__complete" in ran.stdout
    if shutil.which(shell):
        syntax = {"fish": ["--no-execute"]}.get(shell, ["-n"])
        subprocess.run([shell, *syntax], input=ran.stdout, text=True, check=True, timeout=60)


# What a person types and the shell makes of it; zsh completes only on a terminal.
TYPED = {
    "bash": 'eval "$(dvcx completion bash)"; COMP_WORDS=(dvcx remote d); COMP_CWORD=2; _dvcx; echo "${COMPREPLY[@]}"',
    "fish": "dvcx completion fish | source; complete -C 'dvcx remote d' | string replace -r '\t.*' ''",
    "zsh": """zmodload zsh/zpty; zpty w zsh -f -i
zpty -w w 'autoload -Uz compinit; compinit -u -D; eval "$(dvcx completion zsh)"; print rea""dy'
zpty -r -m w told '*ready*'
zpty -w -n w $'dvcx remote d\t'
zpty -r -m w told '*dvcx remote default*'
print default""",
}


@pytest.mark.parametrize("shell", TYPED)
def test_a_shell_completes(shell: str, tmp_path: Path) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell}")
    dvcx = tmp_path / "bin" / "dvcx"
    dvcx.parent.mkdir()
    dvcx.write_text(f"#!/bin/sh\nPYTHONPATH='{SOURCE}' exec '{sys.executable}' -m dvcx \"$@\"\n")
    dvcx.chmod(0o755)
    env = environment()
    env["PATH"] = f"{dvcx.parent}:{env['PATH']}"
    words = [program, "-c", TYPED[shell]]
    ran = subprocess.run(words, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert (ran.stdout, ran.stderr) == ("default\n", "")
