"""Answers a shell that asks how a word may go on. Errors are silent: a shell is no place to print them."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from dvcx.cli.frame import Group, load, root
from dvcx.cli.verbs import VERBS

if TYPE_CHECKING:
    from dvcx.project import Project


def answer(arguments: list[str]) -> int:
    """Print `word TAB help` lines. `arguments`: the index of the word to complete, then all words from `dvcx` on."""
    with suppress(Exception):
        index, words = int(arguments[0]), arguments[1:]
        text = "".join(
            f"{word}\t{about}\n"
            for word, about in candidates(words[1:index], words[index] if index < len(words) else "")
            if word.isprintable()
        )
        sys.stdout.write(text)
        sys.stdout.flush()
    return 0


def candidates(before: list[str], word: str) -> list[tuple[str, str]]:
    """What `word` may become after the words `before` (without the program's name), each with a line of help."""
    command: Any = root()
    rest = list(before)
    while rest and isinstance(command, Group):
        name = rest.pop(0)
        if not name.startswith("-"):
            command = load(name) if command.name == "dvcx" else command.commands.get(name)
    if command is None:
        return []
    if isinstance(command, Group):
        known: Iterable[tuple[str, str]] = _commands(command, word)
    else:
        known = _in_verb(command, rest, word)
    return [(name, about) for name, about in known if name.startswith(word)]


def _commands(group: Group, word: str) -> list[tuple[str, str]]:
    if word.startswith("-"):
        return [("--help", "Show help."), *([("--version", "Print the version.")] if group.name == "dvcx" else [])]
    if group.name == "dvcx":
        return [(row.name, row.help) for row in VERBS.values()]
    return [(name, command.get_short_help_str(80)) for name, command in group.commands.items()]


def _in_verb(command: Any, before: list[str], word: str) -> list[tuple[str, str]]:
    options = {option: param for param in command.params for option in param.opts if param.param_type_name == "option"}
    places = [param for param in command.params if param.param_type_name == "argument"]
    given = 0
    waiting = None
    for earlier in before:
        if waiting is not None:
            waiting = None
        elif earlier in options:
            waiting = None if options[earlier].is_flag else options[earlier]
        elif not earlier.startswith("-"):
            given += 1
    if waiting is not None:
        return _values(command.name, waiting)
    if word.startswith("-"):
        return [(option, param.help or "") for option, param in options.items() if option.startswith("--")] + [
            ("--help", "Show help.")
        ]
    if given < len(places):
        return _values(command.name, places[given])
    return _values(command.name, places[-1]) if places and places[-1].nargs == -1 else []


def _values(verb: str, param: Any) -> list[tuple[str, str]]:
    """What a parameter may be; nothing where a shell's own completion of files is right."""
    choices = getattr(param.type, "choices", None)
    if choices:
        return [(str(choice), "") for choice in choices]
    name = param.metavar or ""
    names = (f"{verb} {name}", param.opts[0] if param.param_type_name == "option" else name)
    find = next((_COMPLETERS[one] for one in names if one in _COMPLETERS), None)
    return find() if find else []


def _targets() -> list[tuple[str, str]]:
    """Tracked paths as seen from here, and stages."""
    from dvcx.cli.face import Face
    from dvcx.ops.list import list_

    face = Face()
    found = [(face.path(item.path), item.kind) for item in list_(face.project()).items]
    with suppress(Exception):
        found += _stages()
    return found


def _stages() -> list[tuple[str, str]]:
    from dvcx.ops.stage import list_ as stages

    return [(stage.name, "stage") for stage in stages(_project()).stages]


def _revisions() -> list[tuple[str, str]]:
    """Branches and tags."""
    from dvcx.io import git

    project = _project()
    kinds = {"branch": "refs/heads", "tag": "refs/tags"} if project.git is not None else {}
    return [(name, kind) for kind, below in kinds.items() if project.git is not None for name in git.names_of(project.git, below)]


def _templates() -> list[tuple[str, str]]:
    from dvcx.ops.plots import plots_templates

    return [(one.name, one.about) for one in plots_templates(_project()).items]


def _remotes() -> list[tuple[str, str]]:
    project = _project()
    return [(name, project.config.remote(name).get("url", "")) for name in project.config.remotes()]


def _keys() -> list[tuple[str, str]]:
    from dvcx.core.config import KEYS

    return [(name, key.meaning) for name, key in KEYS.items()]


def _remote_keys() -> list[tuple[str, str]]:
    prefix = "remote.NAME."
    return [(name.removeprefix(prefix), meaning) for name, meaning in _keys() if name.startswith(prefix)]


def _project() -> Project:
    from dvcx.project import open_project

    return open_project(os.getcwd())


# By the name of an argument, or of an option; where a verb means something else by it, with the verb before.
_COMPLETERS: dict[str, Callable[[], list[tuple[str, str]]]] = {
    "TARGET": _targets,
    "TARGET...": _targets,
    "SOURCE": _targets,
    "diff PATH": _targets,
    "STAGE": _stages,
    "RUN": _stages,
    "exec-action KEY": _stages,
    "A": _revisions,
    "B": _revisions,
    "REV...": _revisions,
    "--rev": _revisions,
    "templates NAME": _templates,
    "--template": _templates,
    "NAME": _remotes,
    "--remote": _remotes,
    "modify KEY": _remote_keys,
    "KEY": _keys,
}
