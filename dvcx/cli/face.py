"""What one command line asked for, and how its verb answers: the project, the listener, the result."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from dvcx.cli import output
from dvcx.core import paths
from dvcx.errors import NotFound, UsageError, display
from dvcx.events import Warned

if TYPE_CHECKING:
    from dvcx.cli.progress import Progress
    from dvcx.project import Project


class Face:
    """One run of the program. `main` makes it, `ctx.obj` carries it to the verb."""

    def __init__(self) -> None:
        self.json = self.quiet = self.verbose = False
        self.paint = output.paint_for(sys.stdout, os.environ)
        self.here = ""
        self._progress: Progress | None = None

    @property
    def emit(self) -> Progress:
        """The listener that shows progress, warnings and notes on stderr."""
        if self._progress is None:
            from dvcx.cli.progress import Progress

            live = output.is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
            paint = output.paint_for(sys.stderr, os.environ)
            self._progress = Progress(live=live, paint=paint, quiet=self.quiet, verbose=self.verbose)
        return self._progress

    def close(self) -> None:
        """Take the bar away, if there is one."""
        if self._progress is not None:
            self._progress.close()

    def project(self, *, jobs: int = 0, no_wait: bool = False) -> Project:
        """The project around the current directory; `jobs` and `no_wait` override its settings for this run."""
        from dvcx.project import open_project

        cwd = working_directory()
        project = open_project(cwd)
        for warning in project.warnings:
            self.emit(Warned(warning))
        inside = os.path.relpath(os.path.realpath(cwd), project.root).replace(os.sep, "/")
        self.here = "" if inside == "." else inside
        overrides: dict[str, Any] = {}
        if jobs:
            overrides["core.jobs"] = jobs
        if no_wait:
            overrides["core.lock_timeout"] = 0
        return _with_settings(project, overrides) if overrides else project

    def paths(self, project: Project, typed: Sequence[str], *, expand: bool = False) -> tuple[str, ...]:
        """Paths the user typed, as project paths. `expand` resolves wildcards that a shell left alone."""
        cwd = working_directory()
        words = [match for word in typed for match in _expand(word)] if expand else typed
        return tuple(project.relpath(cwd, word) for word in words)

    def targets(self, project: Project, typed: Sequence[str] | None) -> tuple[str, ...]:
        """Paths or stages the user typed, as project paths and stages' names."""
        cwd = working_directory()
        return tuple(word if self.here and _may_be_stage(word) else project.relpath(cwd, word) for word in typed or ())

    def globs(self, typed: Sequence[str] | None) -> tuple[str, ...]:
        """Patterns the user typed below the current directory, as patterns of project paths."""
        found = (word.removeprefix("./").rstrip("/") for word in typed or ())
        return tuple(paths.join(self.here, word) for word in found)

    def path(self, path: str) -> str:
        """A project path as seen from the current directory, safe to print."""
        return display(paths.relative(path, self.here)) if self.here else display(path)

    def answer(self, result: Any, lines: Callable[[], Iterable[str]]) -> None:
        """Print the answer to a question: JSON or `lines()`. --quiet does not silence it."""
        output.write(output.to_json(result) if self.json else "".join(f"{line}\n" for line in lines()))

    def done(self, result: Any, lines: Callable[[], Iterable[str]]) -> None:
        """Print what was done: like `answer`, but --quiet silences the text."""
        if self.json or not self.quiet:
            self.answer(result, lines)

    def next(self, *steps: str) -> list[str]:
        """Lines that say what to type next."""
        return [f"{self.paint('next:', 'dim')} {step}" for step in steps]

    def confirm(self, question: str, *, yes: bool) -> None:
        """Go on only after a yes; without a terminal to ask on, --yes is required."""
        if yes:
            return
        if not output.is_terminal(sys.stdin) or not output.is_terminal(sys.stderr):
            raise UsageError(f"{question} There is no terminal to ask on", "--yes answers yes")
        sys.stderr.write(f"{question} [y/N] ")
        sys.stderr.flush()
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            raise UsageError("stopped: nothing was changed", "answer y, or add --yes")

    @contextmanager
    def stages(self) -> Iterator[None]:
        """While stages run: with --json what they print goes to stderr, so that stdout holds the JSON alone."""
        if sys.stdout is not None:
            sys.stdout.flush()
        if not self.json:
            yield
            return
        kept = os.dup(1)
        os.dup2(2, 1)
        try:
            yield
        finally:
            os.dup2(kept, 1)
            os.close(kept)


NO_REVISION = "no revision '{}'"
NOT_TRACKED = "{} is not tracked"


@contextmanager
def instead(words: Iterable[str], could_be: Callable[[str], bool], message: str, hint: str) -> Iterator[None]:
    """Where `message` is the error about one of `words`, which could be something else, `hint` says how that is written."""
    try:
        yield
    except NotFound as error:
        for word in words:
            if error.message == message.format(display(word)) and could_be(word):
                raise NotFound(error.message, hint.format(display(word))) from error
        raise


def working_directory() -> str:
    """The current directory."""
    try:
        return os.getcwd()
    except FileNotFoundError as error:
        raise NotFound("the current directory does not exist any more", "cd into the project") from error


def _expand(word: str) -> list[str]:
    """The files a wildcard names, or the word itself when a file is called that or it has no wildcard."""
    if not any(char in word for char in "*?[") or os.path.lexists(word):
        return [word]
    from glob import glob

    found = sorted(glob(word, recursive=True))
    if not found:
        raise NotFound(f"no file matches '{display(word)}'", "check the pattern with ls")
    return found


def _may_be_stage(word: str) -> bool:
    """Whether `word`, typed below the root, is a stage's name or address rather than a path here."""
    if ":" in word:
        return not os.path.lexists(word.rpartition(":")[0])
    return (
        "/" not in word
        and word not in (".", "..")
        and not os.path.lexists(word)
        and not os.path.lexists(f"{word}.dvcx")
    )


def _with_settings(project: Project, overrides: dict[str, Any]) -> Project:
    from dataclasses import replace

    config = project.config
    return replace(project, config=config._replace(values={**config.values, **overrides}))
