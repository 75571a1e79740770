"""docs/cli.md, made from the commands themselves: `python -m dvcx.cli.reference` prints it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

from dvcx.cli.frame import Group, load, root
from dvcx.cli.verbs import ALIASES, SECTIONS, VERBS

WIDTH = 100


def reference() -> str:
    """The whole page as Markdown."""
    parent = root().make_context("dvcx", [], resilient_parsing=True, terminal_width=WIDTH)
    lines = [
        "# Commands",
        "",
        "This page is made by `python -m dvcx.cli.reference`; do not edit it.",
        "",
        "```text",
        root().get_help(parent),
        "```",
        "",
    ]
    for section, title in SECTIONS.items():
        lines += [f"## {title}", ""]
        for row in VERBS.values():
            if row.section == section:
                lines += _verb(parent, row.name, load(row.name))
    return "\n".join(lines).rstrip() + "\n"


def _verb(parent: Any, name: str, command: Any) -> Iterator[str]:
    also = [alias for alias, verb in ALIASES.items() if verb == name]
    yield f"### dvcx {name}"
    yield ""
    if also:
        yield f"Also `dvcx {also[0]}`."
        yield ""
    context = command.make_context(name, [], parent=parent, resilient_parsing=True, terminal_width=WIDTH)
    commands = command.commands if isinstance(command, Group) else {}
    if not commands:
        yield from ("```text", command.get_help(context), "```", "")
    for inner, inner_command in commands.items():
        inner_context = inner_command.make_context(
            inner, [], parent=context, resilient_parsing=True, terminal_width=WIDTH
        )
        yield from (f"#### dvcx {name} {inner}", "", "```text", inner_command.get_help(inner_context), "```", "")


if __name__ == "__main__":
    sys.stdout.write(reference())
