"""The frame every verb hangs in: lazily loaded groups, help pages, the options all verbs share."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

from dvcx.cli.verbs import ALIASES, ELSEWHERE, EXIT_CODES, SECTIONS, VERBS
from dvcx.errors import UsageError, display

if TYPE_CHECKING:
    # typer carries its own copy of click since 0.26.
    from typer._click import Command, HelpFormatter
    from typer._click import Context as ClickContext


def app() -> typer.Typer:
    """An empty app for one verb's module, or for the verbs of a group."""
    return typer.Typer(cls=Group, rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)


class Verb(TyperCommand):
    """One verb. Its help is the function's docstring: text, then `Examples:`, then `Exits:` with its exit codes.

    `--json`, `--quiet` and `--verbose` go to the Face in `ctx.obj`, not to the function.
    """

    def __init__(self, name: str | None, **attributes: Any) -> None:
        attributes.update(rich_markup_mode=None)
        super().__init__(name, **attributes)
        self.params += [
            _switch(["json", "--json"], "Print the result as JSON."),
            _switch(["quiet", "--quiet", "-q"], "Print only errors and the answer asked for."),
            _switch(["verbose", "--verbose", "-v"], "Print more: every path, and how long things took."),
        ]

    def collect_usage_pieces(self, ctx: ClickContext) -> list[str]:
        """The words after the command's name in its usage line."""
        pieces = ["[OPTIONS]"]
        for param in self.params:
            if param.param_type_name == "argument":
                name = param.metavar or (param.name or "").upper()
                pieces.append(name if param.required else f"[{name}]")
        return pieces

    def format_help_text(self, ctx: ClickContext, formatter: HelpFormatter) -> None:
        """Write the description, without the examples and exit codes."""
        formatter.write_paragraph()
        with formatter.indentation():
            formatter.write_text(help_parts(self)[0])

    def format_epilog(self, ctx: ClickContext, formatter: HelpFormatter) -> None:
        """Write the examples and exit codes."""
        _, examples, exits = help_parts(self)
        if examples:
            with formatter.section("Examples"):
                for line in examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{line}\n")
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), EXIT_CODES[code]) for code in exits])


class AskingRemote(Verb):
    """A verb whose `--remote` may stand without a name: "" then."""

    def parse_args(self, ctx: ClickContext, args: list[str]) -> list[str]:
        """Give a `--remote` that no word follows an empty one."""
        named: list[str] = []
        for number, word in enumerate(args):
            named.append(word)
            if word == "--":
                return super().parse_args(ctx, named + args[number + 1 :])
            if word in ("--remote", "-r") and (number + 1 == len(args) or args[number + 1].startswith("-")):
                named.append("")
        return super().parse_args(ctx, named)


class Group(TyperGroup):
    """A verb that holds verbs (`dvcx remote add`)."""

    def __init__(self, **attributes: Any) -> None:
        attributes.update(rich_markup_mode=None, no_args_is_help=True, subcommand_metavar="COMMAND ...")
        super().__init__(**attributes)

    def collect_usage_pieces(self, ctx: ClickContext) -> list[str]:
        """The words after the group's name in its usage line."""
        return ["COMMAND ..."]

    def format_commands(self, ctx: ClickContext, formatter: HelpFormatter) -> None:
        """Write the table of commands, each with the first sentence of its help."""
        with formatter.section("Commands"):
            formatter.write_dl(
                [
                    (name, help_parts(command)[0].split(". ")[0].split("\n\n")[0].rstrip(".") + ".")
                    for name, command in self.commands.items()
                ]
            )

    def resolve_command(self, ctx: ClickContext, args: list[str]) -> tuple[str | None, Command | None, list[str]]:
        """The command `args` begins with; an unknown one is an error that says what may have been meant."""
        command = self.get_command(ctx, args[0])
        if command is None:
            if ctx.obj is not None and "--json" in args:
                ctx.obj.json = True  # no verb is there to read the option
            message = f"no such command '{display(f'{ctx.command_path} {args[0]}')}'"
            instead = self.elsewhere(args[0])
            if instead:
                raise UsageError(message, instead)
            names = self.list_commands(ctx)
            raise UsageError(message, meant(args[0], names, f"{ctx.command_path} --help lists the commands"))
        return command.name, command, args[1:]

    def elsewhere(self, word: str) -> str:
        """What to do instead of a command other programs have and this group has not; "" when nothing is known."""
        return ELSEWHERE["config KEY"] if self.name == "config" and "." in word else ""


class Root(Group):
    """`dvcx` itself: a verb's module is imported when that verb is asked for, not before."""

    def get_command(self, ctx: ClickContext, cmd_name: str) -> Command | None:
        """The verb or alias called `cmd_name`."""
        return load(cmd_name)

    def list_commands(self, ctx: ClickContext) -> list[str]:
        """The names of all verbs and aliases."""
        return [*VERBS, *ALIASES]

    def elsewhere(self, word: str) -> str:
        """What there is instead of a command of DVC."""
        return ELSEWHERE.get(word, "")

    def collect_usage_pieces(self, ctx: ClickContext) -> list[str]:
        """The words after `dvcx` in its usage line."""
        return ["COMMAND [OPTIONS] ..."]

    def format_commands(self, ctx: ClickContext, formatter: HelpFormatter) -> None:
        """Write the table of verbs, by section, without importing one."""
        also = {verb: alias for alias, verb in ALIASES.items()}
        for section, title in SECTIONS.items():
            rows = [row for row in VERBS.values() if row.section == section]
            with formatter.section(title):
                formatter.write_dl(
                    [(f"{row.name}, {also[row.name]}" if row.name in also else row.name, row.help) for row in rows]
                )

    def format_epilog(self, ctx: ClickContext, formatter: HelpFormatter) -> None:
        """Write the exit codes."""
        with formatter.section("Exit codes"):
            formatter.write_dl([(str(code), text) for code, text in EXIT_CODES.items()])
        formatter.write("\nEvery command takes --json, --quiet and --verbose; 'dvcx COMMAND --help' shows examples.\n")


def load(name: str) -> Command | None:
    """The command of the verb or alias `name`, importing its module; None for an unknown name."""
    row = VERBS.get(ALIASES.get(name, name))
    if row is None:
        return None
    command = typer.main.get_command(import_module(f"dvcx.cli.{row.module}").app)
    command.name = row.name
    if isinstance(command, Group):
        command.help = row.help
    return command


def root() -> Root:
    """The command `dvcx`."""
    option = TyperOption(param_decls=["version", "--version", "-V"], is_flag=True, help="Print the version.")
    return Root(
        name="dvcx",
        help="Git for data and models: version files, link stages, rerun only what is stale.",
        params=[option],
    )


def help_parts(command: Command) -> tuple[str, list[str], list[int]]:
    """Description, example lines and exit codes from a verb's help."""
    text, _, rest = (command.help or "").partition("\nExamples:\n")
    examples, _, exits = rest.partition("\nExits:")
    codes = {0, 2, *(int(code) for code in exits.split())}
    return text.strip(), [line.removeprefix("  ") for line in examples.rstrip().splitlines()], sorted(codes)


def meant(word: str, known: list[str], otherwise: str) -> str:
    """A hint naming what `word` may have been meant to be, and then `otherwise`."""
    from dvcx.core.spelling import did_you_mean

    return f"{did_you_mean(word, known)} {otherwise}".strip()


def _switch(declarations: list[str], text: str) -> TyperOption:
    return TyperOption(param_decls=declarations, is_flag=True, help=text, expose_value=False, callback=_tell_face)


def _tell_face(ctx: Any, param: Any, value: bool) -> None:
    if value and ctx.obj is not None:
        setattr(ctx.obj, param.name, True)
