"""The command line from words to exit code, and the only place that catches everything."""

from __future__ import annotations

import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer._click.exceptions import ClickException, NoArgsIsHelpError, NoSuchOption

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Group, load, meant, root
from dvcx.errors import DvcxError, UsageError, display

BUG = 70
INTERRUPTED = 130
BROKEN_PIPE = 141
TERMINATED = 143


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP (`number`) arrived: unwind as for Ctrl-C, so that everything cleans up behind itself.

    `handler` is what raises it; where it is lost it is raised once more.
    """

    def __init__(self, number: int, handler: Callable[[int, object], None]) -> None:
        super().__init__()
        self.number = number
        self.handler = handler


def main(arguments: Sequence[str]) -> int:
    """Run the command line `arguments` (without the program's name); the exit code. Never raises."""
    if arguments and arguments[0] == "__complete":
        from dvcx.cli.complete import answer

        return answer(list(arguments[1:]))
    face = Face()
    try:
        _prepare()
        try:
            return _run(face, list(arguments))
        finally:
            face.close()
    except DvcxError as error:
        return _tell(error, as_json=face.json, verbose=face.verbose)
    except ClickException as error:
        return _tell(_usage(error, arguments), as_json="--json" in arguments)
    except (KeyboardInterrupt, typer.Abort) as stop:
        return _stopped(stop)
    except BrokenPipeError:
        output.drop_stdout()
        return BROKEN_PIPE
    except BaseException as error:
        # Python wraps what interrupts the making of a class, and modules are loaded when they are needed.
        if isinstance(error.__cause__, KeyboardInterrupt):
            return _stopped(error.__cause__)
        return _bug(error, arguments, as_json=face.json)


def _stopped(how: BaseException) -> int:
    terminated = isinstance(how, Terminated)
    _complain("terminated" if terminated else "interrupted")
    return TERMINATED if terminated else INTERRUPTED


def _prepare() -> None:
    """Close the holes a program may be started with; escape names the terminal cannot show; let SIGTERM unwind."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # Started with `>&-`: the next file opened would get this number, and prints would go into it.
            os.open(os.devnull, os.O_RDWR)
    # Python has None for what was closed.
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")
    for name in ("SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        try:
            # nohup has told us to ignore SIGHUP; that stays so.
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, _terminate)
        except ValueError:
            return  # not the main thread: somebody else's process, somebody else's signals


def _terminate(number: int, frame: object) -> None:
    signal.signal(number, signal.SIG_IGN)  # a second one must not stop the cleaning up
    raise Terminated(number, _terminate)


def _run(face: Face, arguments: list[str]) -> int:
    try:
        # dvcx's own completion is quicker, so typer's entry (`Command.main`) is not used.
        with root().make_context("dvcx", arguments, obj=face, help_option_names=["-h", "--help"]) as context:
            if context.params.get("version"):
                return _version()
            code = context.command.invoke(context)
            return code if isinstance(code, int) else 0
    except typer.Exit as stop:
        return stop.exit_code


def _version() -> int:
    from dvcx import __version__

    output.write(f"dvcx {__version__}\n")
    return 0


def _usage(error: ClickException, arguments: Sequence[str]) -> DvcxError:
    """A parser's complaint about `arguments` in our words."""
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else _command_path(arguments)
    if isinstance(error, NoArgsIsHelpError):
        return _Help(error.format_message())
    help_hint = f"{path} --help shows how it is used"
    if isinstance(error, NoSuchOption):
        name = display(error.option_name)
        is_group = context is not None and isinstance(context.command, Group)
        if is_group and error.option_name in ("--json", "--quiet", "-q", "--verbose", "-v"):
            return UsageError(f"no such option {name} before the command", f"it goes behind: {path} COMMAND {name}")
        known = [option for param in context.command.get_params(context) for option in param.opts] if context else []
        return UsageError(f"no such option {name}", meant(error.option_name, known, help_hint))
    message = " ".join(error.format_message().split()).rstrip(".,")
    message = re.sub(r"^Got unexpected extra arguments?(?:\(s\))? \((.+)\)$", r"more words than it takes: \1", message)
    return UsageError(message[:1].lower() + message[1:], help_hint)


def _command_path(arguments: Sequence[str]) -> str:
    """The command that `arguments` begin with, as it is typed: `dvcx metrics show`."""
    names, command = ["dvcx"], load(arguments[0]) if arguments else None
    for word in arguments[:2]:
        if command is None:
            break
        names.append(word)
        command = command.commands.get(arguments[1]) if isinstance(command, Group) and len(arguments) > 1 else None
    return " ".join(names)


class _Help(UsageError):
    """A group without a command: its help is the answer."""


def _tell(error: DvcxError, *, as_json: bool, verbose: bool = False) -> int:
    """Print `error`; its exit code."""
    if as_json:
        _json_error(type(error).__name__.strip("_"), error.message, error.hint, error.exit_code)
        return error.exit_code
    if isinstance(error, _Help):
        _complain(error.message)
        return error.exit_code
    paint = output.paint_for(sys.stderr, os.environ)
    lines = [f"{paint('error:', 'red')} {_lines(error.message)}"]
    if error.hint:
        lines.append(f"{paint('hint:', 'cyan')} {_lines(error.hint)}")
    if verbose and error.__cause__ is not None:
        from dvcx.cli.trace import redact, secrets

        cause = redact(f"{type(error.__cause__).__name__}: {error.__cause__}", secrets())
        lines.append(f"{paint('cause:', 'dim')} {_lines(cause)}")
    _complain("\n".join(lines))
    return error.exit_code


def _bug(error: BaseException, arguments: Sequence[str], *, as_json: bool) -> int:
    """Write a trace, say where it is and where to report it."""
    from dvcx.cli.trace import REPORT, redact, secrets, write_trace

    known = secrets()
    where = write_trace(error, arguments, known)
    text = redact(f"{type(error).__name__}: {error}", known).splitlines() or [type(error).__name__]
    message = f"unexpected {display(text[0][:300])}; this is a bug in dvcx"
    hint = (
        f"the trace is in {display(where)}; please report it with that file: {REPORT}"
        if where
        else f"please report it: {REPORT}"
    )
    if as_json:
        _json_error("Bug", message, hint, BUG)
    else:
        paint = output.paint_for(sys.stderr, os.environ)
        _complain(f"{paint('error:', 'red')} {message}\n{paint('hint:', 'cyan')} {hint}")
    return BUG


def _json_error(kind: str, message: str, hint: str, code: int) -> None:
    value: dict[str, Any] = {"error": {"kind": kind, "message": message, "hint": hint, "exit_code": code}}
    try:
        output.write(output.to_json(value))
    except (OSError, DvcxError):
        _complain(f"error: {message}")


def _lines(text: str) -> str:
    """`text` safe to print; its line breaks stay, as dvcx wrote them, indented."""
    return "\n  ".join(display(line) for line in text.split("\n"))


def _complain(text: str) -> None:
    try:
        sys.stderr.write(text + "\n")
        sys.stderr.flush()
    except (OSError, ValueError):
        return
