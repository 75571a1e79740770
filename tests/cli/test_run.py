"""How `dvcx run` splits its own options from the command."""

from __future__ import annotations

from typing import Any

import pytest

from dvcx.cli.frame import load
from dvcx.cli.stage import command_text


def _parsed(verb: str, *words: str) -> dict[str, Any]:
    command = load(verb)
    assert command is not None
    params = command.make_context(verb, list(words)).params
    return {name: list(value) if isinstance(value, tuple) else value for name, value in params.items()}


def test_the_commands_options_stay_its_own() -> None:
    params = _parsed(
        "run", "-n", "extract", "-d", "a", "-d", "b", "-o", "out", "python", "script.py", "-n", "3", "--out=x"
    )
    assert params["name"] == "extract"
    assert params["deps"] == ["a", "b"]
    assert params["outs"] == ["out"]
    assert params["command"] == ["python", "script.py", "-n", "3", "--out=x"]


def test_all_options() -> None:
    words = "-n s -d d -o o -O O -p p.a,b -m m -M M --plot q --plot-no-cache Q -w w --desc text --force --no-exec cmd"
    params = _parsed("run", *words.split())
    assert (params["outs_no_cache"], params["metrics"], params["metrics_no_cache"]) == (["O"], ["m"], ["M"])
    assert (params["plots"], params["plots_no_cache"]) == (["q"], ["Q"])
    assert (params["params"], params["wdir"], params["desc"]) == (["p.a,b"], "w", "text")
    assert params["force"]
    assert params["no_exec"]


def test_two_dashes_end_the_options() -> None:
    assert _parsed("run", "-n", "x", "--", "-weird", "command")["command"] == ["-weird", "command"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["python", "a b.py", "*"], "python 'a b.py' '*'"),
        (["wc -l < in > out"], "wc -l < in > out"),
        (["true"], "true"),
    ],
)
def test_the_command_line(words: list[str], text: str) -> None:
    assert command_text(words) == text
