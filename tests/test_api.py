"""The public names: what `import dvcx` costs, and that every name is what it says."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from dataclasses import is_dataclass
from pathlib import Path

import pytest

import dvcx
from tests.cli.runner import environment

PROMISED = (
    *("open_project", "init", "add", "status", "diff", "commit", "checkout", "remove", "move", "unprotect", "list_"),
    *("push", "fetch", "pull", "run", "repro", "check", "dag", "open", "Project", "DvcxError"),
    *("params_show", "params_diff", "metrics_show", "metrics_diff", "plots_show", "plots_diff", "plots_templates"),
)


def test_importing_dvcx_imports_nothing(tmp_path: Path) -> None:
    program = "import sys; before = set(sys.modules); import dvcx; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run(
        [sys.executable, "-S", "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == ["dvcx"]


@pytest.mark.parametrize("name", [name for name in dvcx.__all__ if name != "__version__"])
def test_every_name_is_there(name: str) -> None:
    value = getattr(dvcx, name)
    assert callable(value)
    assert value.__name__ == name
    assert value.__module__.startswith("dvcx.")
    assert inspect.getdoc(value)
    if isinstance(value, type) and not issubclass(value, Exception):
        assert is_dataclass(value)


def test_names_and_types_say_the_same() -> None:
    assert set(PROMISED) <= set(dvcx.__all__)
    assert set(dvcx.__all__) <= set(dir(dvcx))
    tree = ast.parse(Path(str(dvcx.__file__)).read_text())
    typed = {
        (node.module, alias.name)
        for branch in tree.body
        if isinstance(branch, ast.If)
        for node in branch.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert typed == {(f"dvcx.{module}", name) for module, names in dvcx._NAMES.items() for name in names}


def test_operations_are_functions_even_when_their_modules_are_loaded() -> None:
    import dvcx.ops.add
    import dvcx.ops.init
    import dvcx.ops.open

    assert inspect.isfunction(dvcx.add)
    assert inspect.isfunction(dvcx.init)
    assert inspect.isfunction(dvcx.open)


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="nothing"):
        dvcx.nothing  # noqa: B018


def test_a_short_program(repo: Path) -> None:
    dvcx.init(str(repo))
    project = dvcx.open_project(str(repo))
    (repo / "x.csv").write_text("1,2\n")
    [item] = dvcx.add(project, ["x.csv"]).items
    assert item.state == "added"
    assert dvcx.status(project).clean
    with dvcx.open("x.csv", repo=str(repo), mode="r") as file:
        assert file.read() == "1,2\n"
    with pytest.raises(dvcx.NotFound) as caught:
        dvcx.checkout(project, ["nowhere"])
    assert caught.value.hint
    assert caught.value.exit_code == 5


def test_one_text_is_one_path(repo: Path) -> None:
    """`dvcx.add(project, "a.csv")` is what everybody types first."""
    dvcx.init(str(repo))
    project = dvcx.open_project(str(repo))
    (repo / "ab").write_text("1")
    assert [item.path for item in dvcx.add(project, "ab").items] == ["ab"]
    assert dvcx.status(project, "ab").clean
    (repo / "ab").unlink()
    assert dvcx.checkout(project, "ab").placed == 1
    assert dvcx.remove(project, "ab")
