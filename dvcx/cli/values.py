"""How params and metrics look: aligned text, Markdown, CSV; the options their commands share."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

from typer import Argument, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.options import Whole
from dvcx.core.metrics import BETTER, PRECISION, WORSE, Value, delta_text, markdown, text
from dvcx.errors import IntegrityError, UsageError, display
from dvcx.events import Warned

if TYPE_CHECKING:
    from dvcx.ops.revisions import Problem, RevisionValues, ValuesCompared, ValuesShown

Files = Annotated[
    list[str] | None,
    Argument(metavar="FILE...", help="Only these files; all that are declared when left out.", show_default=False),
]
Target = Annotated[
    list[str] | None, Option("--target", "-t", metavar="FILE", help="Only this file; may be repeated.", show_default=False)
]
A = Annotated[str, Argument(metavar="A", help="The older revision.", show_default=True)]
B = Annotated[str, Argument(metavar="B", help="The newer revision; the workspace when left out.", show_default=False)]
Rev = Annotated[
    list[str] | None,
    Option("--rev", metavar="REV", help="At this revision instead of the workspace; may be repeated.", show_default=False),
]
AllBranches = Annotated[bool, Option("--all-branches", "-a", help="The workspace and every branch.")]
AllTags = Annotated[bool, Option("--all-tags", "-T", help="The workspace and every tag.")]
AllCommits = Annotated[
    bool, Option("--all-commits", "-A", help="The workspace, and every commit at which values changed (--json: every commit).")
]
Limit = Annotated[
    int,
    Option("--limit", "-n", click_type=Whole(), metavar="N", help="With --all-commits: only the newest N.", show_default=False),
]
All = Annotated[bool, Option("--all", help="Also what is the same.")]
Deps = Annotated[bool, Option("--deps", help="Only parameters that stages depend on.")]
Markdown = Annotated[bool, Option("--md", help="Print a table of Markdown.")]
Csv = Annotated[bool, Option("--csv", help="Print comma-separated values, numbers in full.")]
Precision = Annotated[
    int,
    Option(
        "--precision",
        click_type=Whole(0, 17),
        metavar="N",
        help=f"Significant digits of decimal numbers: {PRECISION} of metrics, all of parameters, and all in CSV.",
        show_default=False,
    ),
]

NOTHING = "–"
_TOLD = 10


class Layout:
    """Which of the ways to print a table was asked for."""

    def __init__(self, face: Face, *, md: bool, csv: bool, precision: int, default: int = 0) -> None:
        if md + csv + face.json > 1:
            raise UsageError("--json, --md and --csv exclude one another", "choose one of them")
        self.md = md
        self.csv = csv
        self.precision = precision or (0 if csv else default)

    def value(self, value: Value) -> str:
        """A value as one cell."""
        return text(value, self.precision)


def show(face: Face, result: ValuesShown, layout: Layout, noun: str, *, changes: bool = False) -> None:
    """Print values: one revision key by key, several as rows of one table; with `changes` only commits that changed them."""
    tell(face, result.problems, any(one.files for one in result.revisions))
    face.answer(result, lambda: _shown(face, _changing(result) if changes else result, layout, noun))


def compare(face: Face, result: ValuesCompared, layout: Layout, *, change: bool, noun: str) -> None:
    """Print differences, with a column of what numbers changed by when `change`."""
    tell(face, result.problems, bool(result.differences))
    face.answer(result, lambda: _compared(face, result, layout, change, noun))


def tell(face: Face, problems: Sequence[Problem], there: bool) -> None:
    """Name what could not be read; where nothing else is there to show, that is how the command ends."""
    broken = [problem for problem in problems if problem.kind == "broken"]
    if broken and not there:
        problems = [problem for problem in problems if problem is not broken[-1]]
    for problem in problems[:_TOLD]:
        face.emit(Warned(problem.message, problem.hint))
    if len(problems) > _TOLD:
        face.emit(Warned(f"{len(problems) - _TOLD:,} more problems like these", "--json names all of them"))
    if broken and not there:
        raise IntegrityError(broken[-1].message, broken[-1].hint)


_DECLARE = {
    "parameters": "dvcx params show FILE  # shows those of any file; params.yaml is looked at by itself",
    "metrics": "dvcx metrics show FILE  # shows those of any file; list a stage's below its metrics: in dvcx.yaml",
    "plots": "dvcx plots show FILE  # draws any file; list a stage's below its plots: in dvcx.yaml",
}


def nothing(face: Face, noun: str, problems: Sequence[Problem] = ()) -> Iterator[str]:
    """There are none of them, and what to do where that is not for something missing, which was told."""
    yield f"there are no {noun}"
    if not problems:
        yield from face.next(_DECLARE[noun])


def check_limit(limit: int, all_commits: bool) -> None:
    """--limit alone would say nothing."""
    if limit and not all_commits:
        raise UsageError("--limit counts commits of --all-commits", "add --all-commits (-A)")


def _changing(result: ValuesShown) -> ValuesShown:
    """What has a name, and of commits in their order, newest first, those whose values are not those of the one before."""
    later = [*result.revisions[1:], None]
    kept = [one for one, older in zip(result.revisions, later, strict=True) if not (older and _is_same(one, older))]
    return replace(result, revisions=tuple(kept))


def _is_same(one: RevisionValues, older: RevisionValues) -> bool:
    return bool(one.commit) and one.commit.startswith(one.rev) and older.commit.startswith(older.rev) and one.files == older.files


def _shown(face: Face, result: ValuesShown, layout: Layout, noun: str) -> Iterator[str]:
    many = len(result.revisions) > 1
    if not any(file.values for one in result.revisions for file in one.files) and not layout.csv:
        yield from nothing(face, noun, result.problems)
        return
    rows: list[list[str]]
    if not many:
        rows = [["path", "key", "value"]]
        for file in (file for one in result.revisions for file in one.files):
            rows += [[_path(face, layout, file.path), key, layout.value(value)] for key, value in file.values.items()]
    else:
        keys = list(dict.fromkeys(key for one in result.revisions for file in one.files for key in file.values))
        rows = [["revision", "path", *keys]]
        for one in result.revisions:
            for file in one.files:
                cells = [layout.value(file.values[key]) if key in file.values else _gap(layout) for key in keys]
                rows.append([one.rev or "workspace", _path(face, layout, file.path), *cells])
    yield from _table(face, rows, layout)


def _compared(face: Face, result: ValuesCompared, layout: Layout, change: bool, noun: str) -> Iterator[str]:
    old, new = result.a, result.b or "workspace"
    if not result.differences and not layout.csv:
        yield f"no {noun} differ from {display(old)} to {display(result.b) or 'the workspace'}"
        return
    rows = [["path", "key", old, new, *(["change", "verdict" if layout.csv else ""] if change else [])]]
    styles = [""]
    for row in result.differences:
        cells = [_path(face, layout, row.path), row.key]
        cells.append(_gap(layout) if row.state == "added" else layout.value(row.old))
        cells.append(_gap(layout) if row.state == "deleted" else layout.value(row.new))
        if change:
            delta = delta_text(row.delta, layout.precision)
            cells += [delta or ("" if layout.csv or row.state in ("modified", "unchanged") else row.state), row.verdict]
        rows.append(cells)
        styles.append({BETTER: "green", WORSE: "red"}.get(row.verdict, ""))
    if change and not layout.csv and not any(cells[-1] for cells in rows):
        rows = [cells[:-1] for cells in rows]
    yield from _table(face, rows, layout, styles)


def _table(face: Face, rows: list[list[str]], layout: Layout, styles: Sequence[str] = ()) -> Iterator[str]:
    if layout.md:
        yield markdown(rows).rstrip("\n")
    elif layout.csv:
        yield from (_csv_line(cells) for cells in rows)
    else:
        lines = output.columns(rows)
        for number, line in enumerate(lines):
            yield face.paint(line, "bold" if number == 0 else styles[number] if styles else "")


def _csv_line(cells: Sequence[str]) -> str:
    return ",".join(_quoted(cell) for cell in cells)


def _quoted(cell: str) -> str:
    """One cell (RFC 4180)."""
    return '"' + cell.replace('"', '""') + '"' if any(char in cell for char in ',"\r\n') or cell != cell.strip() else cell


def _path(face: Face, layout: Layout, path: str) -> str:
    return path if layout.csv else face.path(path)


def _gap(layout: Layout) -> str:
    return "" if layout.csv else NOTHING

