"""The arguments and options that several verbs share, each said once."""

from __future__ import annotations

from typing import Annotated, Any

from typer import Argument, Option
from typer._click.types import ParamType


class Whole(ParamType):
    """A whole number, at least `low` and at most `high`."""

    name = "whole number"

    def __init__(self, low: int = 0, high: int | None = None) -> None:
        self.low, self.high = low, high

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        """The number, which may come as one or as text."""
        try:
            number = int(value)
        except ValueError:
            number = self.low - 1
        if number < self.low or (self.high is not None and number > self.high):
            end = "on" if self.high is None else f"to {self.high}"
            self.fail(f"'{value}' is not a whole number from {self.low} {end}", param, ctx)
        return number


Targets = Annotated[
    list[str] | None,
    Argument(
        metavar="TARGET...",
        help="Tracked paths, pointers or stage names; everything when left out.",
        show_default=False,
    ),
]
DryRun = Annotated[bool, Option("--dry-run", "-n", help="Say what would be done; change nothing.")]
Force = Annotated[bool, Option("--force", "-f", help="Go on where dvcx would stop to protect work.")]
Yes = Annotated[bool, Option("--yes", "-y", help="Answer yes to every question.")]
Jobs = Annotated[
    int,
    Option("--jobs", "-j", click_type=Whole(), metavar="N", help="Transfers at a time; 0 takes core.jobs.", show_default=False),
]
NoWait = Annotated[bool, Option("--no-wait", help="Stop with exit code 7 instead of waiting for another dvcx.")]
Remote = Annotated[
    str,
    Option("--remote", "-r", metavar="NAME", help="The remote; the default remote when left out.", show_default=False),
]
Globs = Annotated[
    list[str] | None,
    Option(
        "--glob",
        metavar="PATTERN",
        help="Recorded paths that match, such as 'data/**/*.png'; quote it; may be repeated.",
        show_default=False,
    ),
]
AskRemote = Annotated[
    str | None,
    Option(
        "--remote",
        "-r",
        metavar="[NAME]",
        help="Compare with what a remote holds now, too; the default remote without a name.",
        show_default=False,
    ),
]
Exact = Annotated[
    bool, Option("--exact", help="Record directories as just what is here: what was never pulled counts as deleted.")
]
Local = Annotated[bool, Option("--local", help="Write .dvcx/config.local.toml, which git ignores.")]
