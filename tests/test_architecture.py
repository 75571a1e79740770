"""The rooms: what may be imported where, who may touch the world, and that every verb has all its parts."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest

import dvcx
from dvcx.cli.reference import NAMED
from dvcx.cli.verbs import ALIASES, VERBS
from tests.cli.runner import dvcx_run, environment, modules_of

SOURCE = Path(str(dvcx.__file__)).parent
ROOT = SOURCE.parent
FILES = sorted(SOURCE.rglob("*.py"))

# A guest, and the files (or rooms, ending with a slash) it may be named in.
GUESTS = {
    "pandas": ("io/tables.py", "io/comparing.py"),
    "pyarrow": ("io/tables.py",),
    "rich": ("cli/",),
    "typer": ("cli/",),
    "fsspec": ("io/store/fsspec.py", "io/store/schemes.py"),
    "obstore": ("io/store/objectstore.py",),
    "botocore": ("io/store/objectstore.py", "io/store/multipart.py"),
    "boto3": ("io/store/objectstore.py",),
    "plotext": ("cli/plots.py",),
    "vl_convert": ("io/plots/",),
    "paramiko": ("io/store/fsspec.py",),
    "sqlite3": ("io/statindex.py", "io/store/catalog.py"),
    "subprocess": ("io/git.py", "io/runners/"),
    "tomlkit": ("io/configfile.py",),
    "tomllib": ("io/configfile.py", "io/yaml/params.py", "cli/trace.py"),
    "yaml": ("io/yaml/",),
    "zstandard": ("io/store/",),
    "pyfastcdc": ("io/store/chunking.py",),
    "xxhash": ("io/hashing.py",),
    "blake3": ("io/hashing.py", "io/store/packfile.py"),
}
NEVER = frozenset({"pickle", "marshal", "shelve", "cPickle", "dill", "cloudpickle", "joblib", "code", "codeop"})
HEAVY = frozenset({"rich", "pandas", "pyfastcdc", "fsspec", "obstore", "pydantic", "tomlkit", "yaml", "asyncio", "logging"})

# What reaches outside elsewhere than in cli. The environment goes to programs that are started, and to botocore's own
# reading of AWS_*; dvcx's settings are read from it in project.py alone.
LOOKS_AROUND = {
    "__main__.py": {"print", "sys.exit", "sys.argv", "sys.stderr"},
    "project.py": {"os.environ"},
    "io/git.py": {"os.environ"},
    # A program of its own: the keeper of jobs.
    "io/runners/keeper.py": {"os.environ", "sys.argv"},
    "io/runners/local.py": {"os.environ", "sys.stdin"},
    "io/store/objectstore.py": {"os.environ"},
    "io/processes.py": {"os._exit", "sys.stdout", "sys.stderr"},
}


def name_of(file: Path) -> str:
    return file.relative_to(SOURCE).as_posix()


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"), str(file))


def nodes(file: Path) -> Iterator[ast.AST]:
    return ast.walk(tree_of(file))


def imported(file: Path) -> set[str]:
    """Top names of everything a file imports, wherever in it."""
    found = set()
    for node in nodes(file):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(str(node.module).partition(".")[0])
        elif isinstance(node, ast.Call) and called(node).endswith(("import_module", "__import__")) and node.args:
            first = node.args[0]
            found |= {first.value.partition(".")[0]} if isinstance(first, ast.Constant) else set()
    return found


def called(node: ast.Call) -> str:
    """The dotted name a call calls, "" for one that has none."""
    try:
        return ast.unparse(node.func)
    except ValueError:
        return ""


def module_name(file: Path) -> str:
    return ".".join(["dvcx", *Path(name_of(file)).with_suffix("").parts]).removesuffix(".__init__")


def test_the_contracts_of_the_rooms_are_kept(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("lint-imports")
    if not program.exists():
        pytest.skip("import-linter is not installed")
    done = subprocess.run(
        [str(program), "--no-cache"], cwd=ROOT, env=environment(NO_COLOR="1"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_guests_stay_in_their_files(file: Path) -> None:
    name = name_of(file)
    strangers = {
        guest
        for guest in imported(file) & GUESTS.keys()
        if not any(name == place or (place.endswith("/") and name.startswith(place)) for place in GUESTS[guest])
    }
    assert not strangers


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_nothing_is_unpickled_or_evaluated(file: Path) -> None:
    assert not imported(file) & NEVER
    calls = {called(node) for node in nodes(file) if isinstance(node, ast.Call)}
    assert not calls & {"eval", "exec", "compile", "__import__", "os.system", "os.popen"}
    if "yaml" in imported(file):
        assert not {call for call in calls if call.startswith("yaml.") and "load" in call.lower()} - {"yaml.SafeLoader"}


def test_shells_are_started_by_runners_only() -> None:
    for file in FILES:
        shells = [
            node.lineno
            for node in nodes(file)
            if isinstance(node, ast.keyword) and node.arg == "shell" and not name_of(file).startswith("io/runners/")
        ]
        assert not shells, f"{name_of(file)}:{shells}"


@pytest.mark.parametrize("file", [file for file in FILES if not name_of(file).startswith("cli/")], ids=name_of)
def test_only_cli_prints_exits_and_looks_around(file: Path) -> None:
    calls = {"print", "input", "exit", "quit", "sys.exit", "os._exit", "os.getcwd", "os.chdir", "os.getenv"}
    names = {"os.environ", "sys.stdout", "sys.stderr", "sys.stdin", "sys.argv"}
    found = {called(node) for node in nodes(file) if isinstance(node, ast.Call)} & calls
    found |= {ast.unparse(node) for node in nodes(file) if isinstance(node, ast.Attribute)} & names
    assert not found - LOOKS_AROUND.get(name_of(file), set())


def test_every_module_imports_alone(tmp_path: Path) -> None:
    """Each in a fresh set of modules, so that no order of imports hides a circle."""
    program = """
import sys, importlib
for name in sys.argv[1:]:
    for known in [known for known in sys.modules if known == "dvcx" or known.startswith("dvcx.")]:
        del sys.modules[known]
    importlib.import_module(name)
"""
    names = [module_name(file) for file in FILES if file.name != "__main__.py"]
    done = subprocess.run(
        [sys.executable, "-c", program, *names], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("file", FILES, ids=name_of)
def test_every_file_says_what_it_owns(file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert not text.strip() or ast.get_docstring(tree_of(file))
    for node in tree_of(file).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_") and not _is_overload(node):
            assert ast.get_docstring(node), f"{name_of(file)}: {node.name} has no docstring"
    assert not re.search(r"\b(TODO|FIXME|XXX)\b", text)


def _is_overload(node: ast.FunctionDef | ast.ClassDef) -> bool:
    return any(ast.unparse(decorator) == "overload" for decorator in node.decorator_list)


# Verbs


def commands() -> list[tuple[str, str, Any]]:
    """(words, module below ops, command) of every verb and every command of a group."""
    from dvcx.cli.frame import load

    found = []
    for row in VERBS.values():
        command: Any = load(row.name)
        inner = getattr(command, "commands", None)
        if inner is None:
            found.append((row.name, row.module, command))
        else:
            found += [(f"{row.name} {name}", row.module, one) for name, one in inner.items()]
    return found


COMMANDS = commands()
# These two are about the program itself.
WITHOUT_OPERATION = frozenset({"version", "completion"})


@pytest.mark.parametrize(("words", "module", "command"), COMMANDS, ids=[words for words, _, _ in COMMANDS])
def test_every_verb_has_an_operation_with_a_frozen_result(words: str, module: str, command: Any) -> None:
    if words.partition(" ")[0] in WITHOUT_OPERATION:
        return
    from dvcx.cli.reference import _result

    result = _result(module, words)
    assert result is not None, f"dvcx.ops.{module} has no operation for 'dvcx {words}' that returns a dataclass"
    _check_plain(result)


def _check_plain(result: type, around: tuple[type, ...] = ()) -> None:
    """A result is a frozen dataclass of values that JSON knows, all the way down; a tree holds the same again. `object` is
    a document of another format."""
    if result in around:
        return
    frozen = getattr(result, "__dataclass_params__").frozen  # noqa: B009
    assert frozen, result
    hints = get_type_hints(result, localns=NAMED)
    for field in fields(result):  # type: ignore[arg-type]
        for kind in _leaves(hints[field.name]):
            if is_dataclass(kind):
                _check_plain(kind, (*around, result))
            else:
                assert kind in (str, int, float, bool, type(None), object), f"{result.__name__}.{field.name}: {kind}"


def _leaves(kind: Any) -> Iterator[Any]:
    arguments = [argument for argument in get_args(kind) if argument is not Ellipsis]
    if not arguments:
        yield kind
    for argument in arguments:
        yield from _leaves(argument)


@pytest.mark.parametrize(("words", "module", "command"), COMMANDS, ids=[words for words, _, _ in COMMANDS])
def test_every_verb_has_help_examples_json_and_a_page(words: str, module: str, command: Any) -> None:
    from dvcx.cli.frame import help_parts

    about, examples, _ = help_parts(command)
    assert about
    assert examples and all(line.strip().startswith(("dvcx", "eval", "source", "#")) or "dvcx" in line for line in examples)
    assert {"json", "quiet", "verbose"} <= {param.name for param in command.params}
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    assert re.search(rf"^#+ dvcx {re.escape(words)}$", page, re.MULTILINE)


@pytest.mark.parametrize("verb", list(VERBS))
def test_every_verb_is_where_it_is_looked_for(verb: str) -> None:
    module = VERBS[verb].module
    assert (SOURCE / "cli" / f"{module}.py").is_file()
    assert verb in WITHOUT_OPERATION or (SOURCE / "ops" / f"{module}.py").is_file()


def test_hints_name_commands_that_exist() -> None:
    from dvcx import errors

    kinds = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, errors.DvcxError)}
    known = {words for words, _, _ in COMMANDS}
    words_of_prose = {"inside", "project", "tracks"}
    for file in FILES:
        for node in nodes(file):
            if not (isinstance(node, ast.Call) and called(node).rpartition(".")[2] in kinds and len(node.args) > 1):
                continue
            texts = (part.value for part in ast.walk(node.args[1]) if isinstance(part, ast.Constant))
            for first, second in re.findall(r"\bdvcx ([a-z]+(?:-[a-z]+)*)(?: ([a-z]+))?", "\n".join(filter(_is_text, texts))):
                found = first in known or first in ALIASES or f"{first} {second}" in known or first in words_of_prose
                assert found, f"{name_of(file)}:{node.lineno}: there is no 'dvcx {first} {second}'"


def _is_text(value: object) -> bool:
    return isinstance(value, str)


# Starting up


def test_status_loads_nothing_heavy(repo: Path) -> None:
    for words in (["init"], ["add", "data.csv"]):
        (repo / "data.csv").write_text("1,2\n")
        done = dvcx_run(*words, cwd=repo)
        assert done.returncode == 0, done.stderr
    (repo / "dvcx.yaml").write_text("stages:\n  s: {cmd: 'cp data.csv out', deps: [data.csv], outs: [out]}\n")
    # The first look reads dvcx.yaml; what was read is remembered.
    dvcx_run("status", cwd=repo)
    modules = modules_of("status", cwd=repo)
    assert "dvcx.ops.status" in modules
    assert not modules & HEAVY


def test_every_operation_is_light_until_it_works(tmp_path: Path) -> None:
    names = [module_name(file) for file in FILES if name_of(file).startswith("ops/")]
    program = f"import sys; [__import__(name) for name in {names!r}]; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    assert not set(done.stdout.split()) & (HEAVY | {"typer", "pathspec", "platformdirs", "urllib3", "botocore"})


def test_nothing_committed_names_this_machine() -> None:
    home = os.path.expanduser("~")
    for file in FILES:
        text = file.read_text(encoding="utf-8")
        assert not re.search(r"/(home|Users)/[a-z]", text), name_of(file)
        assert home in ("/", "/root") or home not in text


def test_contracts_name_modules_that_exist() -> None:
    import tomllib

    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    for contract in settings["contracts"]:
        for name in (*contract.get("source_modules", ()), *contract.get("containers", ()), *contract.get("ancestors", ())):
            import_module(name)
