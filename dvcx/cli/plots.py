"""dvcx plots: draw data and pictures into a page that needs no network, or on the terminal."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Context, Option

from dvcx.cli import charts, output
from dvcx.cli.face import NO_REVISION, Face, instead, working_directory
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import Remote
from dvcx.cli.values import nothing, tell
from dvcx.core.metrics import is_number
from dvcx.core.plots import DATA, IMAGES, Changes, Line, Series, count_pairs, extension, labels_of, thinned
from dvcx.errors import UsageError, amount, display
from dvcx.events import Warned

if TYPE_CHECKING:
    from dvcx.ops.plots import Drawing, Plotted
    from dvcx.ops.revisions import Problem
    from dvcx.project import Project

app = app()

Names = Annotated[
    list[str] | None,
    Argument(metavar="PLOT...", help="Plots of dvcx.yaml, files or directories; all plots when left out.", show_default=False),
]
Target = Annotated[
    list[str] | None, Option("--target", metavar="PLOT", help="Only this plot or file; may be repeated.", show_default=False)
]
Revs = Annotated[
    list[str] | None,
    Argument(metavar="REV...", help="Revisions to draw; fewer than two: with the workspace. [HEAD]", show_default=False),
]
Rev = Annotated[
    list[str] | None,
    Option("--rev", metavar="REV", help="At this revision instead of the workspace; may be repeated.", show_default=False),
]
_WRITTEN = ("html", "htm", "svg", "png")
_NOT_WRITTEN = ("pdf", "jpg", "jpeg", "gif", "webp", "json", "md")
_OUT = "Write the page there: a file, or a directory; one plot as .svg or .png."
Out = Annotated[str, Option("--out", "-o", metavar="PATH", help=_OUT, show_default=False)]
Open = Annotated[bool, Option("--open", help="Open the page in a browser.")]
Terminal = Annotated[bool, Option("--terminal", help="Draw on the terminal (needs plotext).")]
X = Annotated[str, Option("--x", "-x", metavar="FIELD", help="The field for x.", show_default=False)]
Y = Annotated[list[str] | None, Option("--y", "-y", metavar="FIELD", help="A field for y; may be repeated.", show_default=False)]
Named = Annotated[str, Option("--template", "-t", metavar="NAME", help="The template to draw with.", show_default=False)]
Title = Annotated[str, Option("--title", metavar="TEXT", help="The title.", show_default=False)]
XLabel = Annotated[str, Option("--x-label", metavar="TEXT", help="What to call x.", show_default=False)]
YLabel = Annotated[str, Option("--y-label", metavar="TEXT", help="What to call y.", show_default=False)]
NoHeader = Annotated[bool, Option("--no-header", help="CSV files have no first row of names: fields are 0, 1, …")]


@app.command("show", cls=Verb)
def show(
    ctx: Context,
    plots: Names = None,
    rev: Rev = None,
    out: Out = "",
    open: Open = False,
    terminal: Terminal = False,
    x: X = "",
    y: Y = None,
    template: Named = "",
    title: Title = "",
    x_label: XLabel = "",
    y_label: YLabel = "",
    no_header: NoHeader = False,
    remote: Remote = "",
) -> None:
    """Draw the plots that dvcx.yaml declares, or files, into one page: .dvcx/plots/index.html. `--json`: as Vega-Lite.

    Examples:
      dvcx plots show --open
      dvcx plots show log.csv --out log.svg
      dvcx plots show log.csv -x epoch -y loss -y accuracy
      dvcx plots show predictions.csv --template confusion -x actual -y predicted

    Exits: 3 4 5 8 9
    """
    from dvcx.ops.plots import collect
    from dvcx.ops.plots import plots_show as op

    face: Face = ctx.obj
    project = face.project()
    changes = _changes(x, y, template, title, x_label, y_label, no_header)
    names = _names(face, project, plots)
    if terminal:
        drawings, problems, _ = collect(project, names, rev=rev or (), changes=changes, remote=remote)
        _terminal(face, drawings, problems)
        return
    page = not face.json or bool(out) or open
    result = op(project, names, rev=rev or (), changes=changes, page=page, out=_place(out), remote=remote)
    _answer(face, result, open)


@app.command("diff", cls=Verb)
def diff(
    ctx: Context,
    revs: Revs = None,
    targets: Target = None,
    out: Out = "",
    open: Open = False,
    terminal: Terminal = False,
    x: X = "",
    y: Y = None,
    template: Named = "",
    title: Title = "",
    x_label: XLabel = "",
    y_label: YLabel = "",
    no_header: NoHeader = False,
    remote: Remote = "",
) -> None:
    """Draw plots of several revisions over one another, one colour each; pictures side by side.

    Examples:
      dvcx plots diff
      dvcx plots diff main v1.0 --open
      dvcx plots diff HEAD~1 HEAD --target log.csv --json

    Exits: 3 4 5 8 9
    """
    from dvcx.ops.plots import collect, compared
    from dvcx.ops.plots import plots_diff as op

    face: Face = ctx.obj
    project = face.project()
    changes = _changes(x, y, template, title, x_label, y_label, no_header)
    names, chosen = _names(face, project, targets), tuple(revs or ())
    page = not face.json or bool(out) or open
    with instead(chosen, os.path.lexists, NO_REVISION, "for a file: dvcx plots diff --target {}"):
        if terminal:
            drawings, problems, _ = collect(project, names, rev=compared(chosen), changes=changes, remote=remote)
            _terminal(face, drawings, problems)
            return
        result = op(project, chosen, targets=names, changes=changes, page=page, out=_place(out), remote=remote)
    _answer(face, result, open)


@app.command("templates", cls=Verb)
def templates(
    ctx: Context,
    name: Annotated[str, Argument(metavar="NAME", help="Print this one, to begin another with.", show_default=False)] = "",
) -> None:
    """List the templates, or print one. `.dvcx/plots/NAME.json` is a template of your own.

    Examples:
      dvcx plots templates
      dvcx plots templates linear > .dvcx/plots/mine.json

    Exits: 3 4 5 9
    """
    from dvcx.ops.plots import plots_templates as op

    face: Face = ctx.obj
    result = op(face.project(), name)

    def lines() -> Iterable[str]:
        if name:
            return [output.to_json(result.items[0].spec).rstrip("\n")]
        return output.columns([(item.name, item.about) for item in result.items])

    face.answer(result, lines)


def _changes(
    x: str, y: list[str] | None, template: str, title: str, x_label: str, y_label: str, no_header: bool
) -> Changes:
    return Changes(x, tuple(y or ()), template, title, x_label, y_label, not no_header)


def _names(face: Face, project: Project, typed: list[str] | None) -> tuple[str, ...]:
    """Names of plots as they are, files as project paths."""
    here = working_directory()
    return tuple(word if _may_be_name(face, word) else project.relpath(here, word) for word in typed or ())


def _may_be_name(face: Face, word: str) -> bool:
    """Whether `word` is a plot's name; below the root what looks like a file is one, of another revision perhaps."""
    if os.path.lexists(word) or word.startswith(("/", "..")):
        return False
    return not face.here or ("/" not in word and extension(word) not in (*DATA, *IMAGES))


def _place(out: str) -> str:
    """The absolute path of the page, "" for its default place."""
    if not out:
        return ""
    path = os.path.abspath(out)
    kind = "" if os.path.isdir(path) else extension(path)
    if kind in _NOT_WRITTEN:
        hint = "name an .html file or a directory; one plot may be .svg or .png"
        raise UsageError(f"--out: plots are not written as .{kind}", hint)
    return path if kind in _WRITTEN else os.path.join(path, "index.html")


def _answer(face: Face, result: Plotted, open: bool) -> None:
    tell(face, result.problems, bool(result.plots))
    face.done(result, lambda: _lines(face, result))
    if open and result.page:
        import webbrowser
        from pathlib import Path

        if not webbrowser.open(Path(result.page).as_uri()):
            face.emit(Warned("no browser could be opened", f"open {result.page}"))


def _lines(face: Face, result: Plotted) -> Iterator[str]:
    for plot in result.plots:
        if plot.note:
            yield f"{display(plot.name)}: {plot.note}"
    if not result.plots:
        yield from nothing(face, "plots", result.problems)
        return
    yield f"wrote {output.plural(len(result.plots), 'plot')} to {display(os.path.relpath(result.page))}"


# On the terminal


def _terminal(face: Face, drawings: Sequence[Drawing], problems: Sequence[Problem]) -> None:
    if face.json:
        raise UsageError("--json and --terminal exclude one another", "choose one of them")
    tell(face, problems, bool(drawings))
    width = min(os.get_terminal_size().columns if output.is_terminal(sys.stdout) else 80, 160)
    blocks = [_text(face, drawing, width) for drawing in drawings]
    output.write("\n".join(blocks) or "".join(f"{line}\n" for line in nothing(face, "plots", problems)))


def _text(face: Face, drawing: Drawing, width: int) -> str:
    """One plot as text."""
    one = drawing.definition
    title = display(one.title or one.name)
    if drawing.pictures:
        sizes = [amount(len(picture.data)) if picture.kind else "not there" for _, picture in drawing.pictures]
        pairs = zip(drawing.pictures, sizes, strict=True)
        rows = [(picture.rev, f"image: {path} ({size})") for (path, picture), size in pairs]
        return "".join(f"{line}\n" for line in [title, *output.columns(rows, "  ")])
    labels = labels_of(one.series, drawing.lines)
    several = len({line.series for line in drawing.lines}) > 1
    names = [f"{line.rev} {labels[line.series]}" if several else line.rev for line in drawing.lines]
    if one.template.startswith("bar_"):
        shown = names if len(drawing.lines) > 1 else [""] * len(drawing.lines)
        lines = charts.bars(drawing.lines, shown, width, longest_first=one.template.endswith("_sorted"))
        return "".join(f"{line}\n" for line in [title, *lines])
    if one.template.startswith("confusion"):
        return "".join(f"{line}\n" for line in _matrices(title, one.template, drawing.lines, labels, names, width))
    return _curves(face, title, one.template, drawing.lines, names, width)


def _matrices(
    title: str, template: str, lines: Sequence[Line], labels: Mapping[Series, str], names: Sequence[str], width: int
) -> Iterator[str]:
    field = "share" if template.endswith("_normalized") else "count"
    rows = count_pairs(lines, labels)
    for line, name in zip(lines, names, strict=True):
        own = [row for row in rows if (row["rev"], row["series"]) == (line.rev, labels[line.series])]
        yield f"{title} ({display(name)})"
        yield from charts.matrix(own, field, f"{line.y} \\ {line.x}", width)


def _curves(face: Face, title: str, template: str, lines: Sequence[Line], names: Sequence[str], width: int) -> str:
    """Lines or points, 20 lines high."""
    try:
        import plotext
    except ImportError:
        hint = "pip install 'dvcx[plots]', or: pip install 'plotext<6'"
        raise UsageError("--terminal needs the package plotext", hint) from None
    plotext.clear_figure()
    plotext.theme("pro" if face.paint.on else "clear")
    # It fits the plot into what it takes for the terminal, which is small where there is none.
    plotext.limit_size(False, False)
    plotext.plotsize(max(width, 20), 20)
    plotext.title(title[:width])
    draw = plotext.scatter if template.startswith("scatter") else plotext.plot
    drawn = 0
    # Without colours, signs tell lines apart.
    signs = "·+ox#*" if len(lines) > 1 and not face.paint.on else ""
    for number, (line, name) in enumerate(zip(lines, names, strict=True)):
        points = [point for point in line.points if is_number(point.x) and is_number(point.y)]
        points = [points[at] for at in thinned(len(points), max(1, len(points) // 2_000))]
        drawn += len(points)
        if points:
            sign = signs[number % len(signs)] if signs else None
            draw([point.x for point in points], [point.y for point in points], label=display(name)[: width // 2], marker=sign)
    if not drawn:
        return f"{title}\n  no numbers to draw: the page, or another template, may show them\n"
    text: str = plotext.build()
    return (text if face.paint.on else plotext.uncolorize(text)).rstrip("\n") + "\n"
