"""docs/cli.md, made from the commands themselves: `python -m dvcx.cli.reference` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any, get_args, get_origin, get_type_hints

from dvcx.cli.frame import Group, load, root
from dvcx.cli.verbs import ALIASES, SECTIONS, VERBS
from dvcx.core.holding import Holding

WIDTH = 100
NAMED = {"Holding": Holding}
"""Types that results name for type checkers only: importing them costs every start."""

_INTRODUCTION = """\
<!-- made by: python -m dvcx.cli.reference; do not edit -->

# Commands

With `--json` a command prints one JSON object on stdout: its result, with the fields listed here. Sizes are bytes, times
seconds, paths relative to the project's root. When a command fails it prints
`{"error": {"kind": …, "message": …, "hint": …, "exit_code": …}}` instead. Progress, warnings and notes go to stderr.
"""

# Where the result of a command is not that of the operation of the same name.
_OPERATIONS = {
    "config list": "show",
    "cache dir": "directory",
    "config set": "set_",
    "remote list": "list_",
    "stage list": "list_",
    "list": "list_",
    "exec-action": "exec_action",
}

_WORDS = {str: "text", int: "integer", float: "number", bool: "true or false", type(None): "null"}


def reference() -> str:
    """The whole page as Markdown."""
    parent = root().make_context(
        "dvcx", [], resilient_parsing=True, terminal_width=WIDTH, help_option_names=["-h", "--help"]
    )
    lines = [_INTRODUCTION, "```text", root().get_help(parent), "```", ""]
    for section, title in SECTIONS.items():
        lines += [f"## {title}", ""]
        for row in VERBS.values():
            if row.section == section:
                lines += _verb(parent, row.name, load(row.name))
    return "\n".join(lines).rstrip() + "\n"


def _verb(parent: Any, name: str, command: Any) -> Iterator[str]:
    yield from (f"### dvcx {name}", "")
    for alias, verb in ALIASES.items():
        if verb == name:
            yield from (f"Also `dvcx {alias}`.", "")
    context = command.make_context(name, [], parent=parent, resilient_parsing=True, terminal_width=WIDTH)
    if not isinstance(command, Group):
        yield from _page(context, command, name, name)
        return
    for inner, one in command.commands.items():
        yield from (f"#### dvcx {name} {inner}", "")
        inside = one.make_context(inner, [], parent=context, resilient_parsing=True, terminal_width=WIDTH)
        yield from _page(inside, one, name, f"{name} {inner}")


def _page(context: Any, command: Any, module: str, name: str) -> Iterator[str]:
    yield from ("```text", command.get_help(context), "```", "")
    result = _result(module, name)
    if result is not None:
        yield from ("`--json` prints:", "", "```text", *_shape(result, ""), "```", "")


def _result(module: str, name: str) -> Any:
    """The class of the result that the command's operation returns; None where there is no operation."""
    if name == "version":
        from dvcx.cli.version import Version

        return Version
    try:
        operations = import_module(f"dvcx.ops.{module.replace('-', '_')}")
    except ModuleNotFoundError:
        return None
    names = (_OPERATIONS.get(name, name.rpartition(" ")[2]), name.replace(" ", "_"))
    operation = next((found for found in (getattr(operations, one, None) for one in names) if found), None)
    # The annotation is text, and get_type_hints would stumble over names imported for type checking only.
    returned = getattr(operations, str(operation.__annotations__.get("return")), None) if operation else None
    return returned if is_dataclass(returned) else None


def _shape(result: Any, indent: str, around: tuple[Any, ...] = ()) -> Iterator[str]:
    hints = get_type_hints(result, localns=NAMED)
    for field in fields(result):
        yield from _described(field.name, hints[field.name], indent, (*around, result))


def _described(name: str, kind: Any, indent: str, around: tuple[Any, ...]) -> Iterator[str]:
    inner = next((argument for argument in get_args(kind) if is_dataclass(argument)), None)
    if is_dataclass(kind):
        yield f"{indent}{name}:"
        yield from _shape(kind, indent + "  ", around)
    elif inner in around:
        yield f"{indent}{name}: list of the same, and so on"
    elif inner is not None:
        yield f"{indent}{name}: list of"
        yield from _shape(inner, indent + "  ", around)
    else:
        yield f"{indent}{name}: {_word(kind)}"


def _word(kind: Any) -> str:
    arguments = [argument for argument in get_args(kind) if argument is not Ellipsis]
    origin = get_origin(kind)
    if origin in (tuple, list):
        return f"list of {_word(arguments[0])}"
    if origin in (dict, Mapping):
        return f"object of {_word(arguments[1])} by name"
    if arguments:
        return " or ".join(argument if isinstance(argument, str) else _word(argument) for argument in arguments)
    return _WORDS.get(kind, "any value")


if __name__ == "__main__":
    sys.stdout.write(reference())
