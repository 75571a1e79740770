"""Plots: what dvcx.yaml says is to be drawn, from which fields of which files, as points. No drawing here."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dvcx.core import vega
from dvcx.core.metrics import number
from dvcx.core.paths import parent, resolve
from dvcx.core.pipeline.schema import FILE_NAME, Pipeline
from dvcx.core.spelling import did_you_mean
from dvcx.errors import UsageError, display

MAX_POINTS = 50_000
IMAGES = {
    "png": "image/png",
    "jpg": "image/jpeg",
    "jpeg": "image/jpeg",
    "gif": "image/gif",
    "svg": "image/svg+xml",
    "webp": "image/webp",
}
DATA = ("json", "yaml", "yml", "csv", "tsv")
STEP = "step"


class Series(NamedTuple):
    """One line: the field `y` of `file` over its field `x`. "" is the last field of the file, and the number of the row.

    `x_file` is the file that x is a field of, when that is another one: its rows go with those of `file` one by one.
    """

    file: str
    y: str = ""
    x: str = ""
    x_file: str = ""


class Definition(NamedTuple):
    """One plot as it was declared; a text is "" where nothing was said. `header`: whether CSV files have one."""

    name: str
    series: tuple[Series, ...]
    template: str = ""
    title: str = ""
    x_label: str = ""
    y_label: str = ""
    header: bool = True

    @property
    def files(self) -> tuple[str, ...]:
        """The files it reads."""
        return tuple(dict.fromkeys(file for one in self.series for file in (one.file, one.x_file) if file))

    @property
    def is_image(self) -> bool:
        """Whether it shows a picture instead of data."""
        return len(self.series) == 1 and extension(self.series[0].file) in IMAGES


def extension(path: str) -> str:
    """What a file's name ends with, in small letters: "csv"."""
    base, dot, end = path.rpartition("/")[2].rpartition(".")
    return end.lower() if dot and base else ""


def defined(pipelines: Mapping[str, Pipeline]) -> list[Definition]:
    """All plots of a project: those of the lists at the top, then outputs that are plots and are in none of those."""
    found: dict[str, Definition] = {}
    for file, pipeline in pipelines.items():
        for plot in pipeline.plots:
            one = _top(plot.name, json.loads(plot.properties), file)
            found.setdefault(one.name, one)
    drawn = {file for one in found.values() for file in one.files}
    for pipeline in pipelines.values():
        for out in (out for stage in pipeline.stages for out in stage.outs if out.plot):
            properties = json.loads(out.plot)
            if out.path in found or (not properties and out.path in drawn):
                continue
            several = properties if isinstance(properties, list) else [properties]
            for count, one in enumerate(several, 1):
                name = out.path if count == 1 else f"{out.path} ({count})"
                found[name] = _definition(name, [Series(out.path, str(one.get("y") or ""), str(one.get("x") or ""))], one)
    return list(found.values())


def _top(name: str, properties: Mapping[str, Any], file: str) -> Definition:
    """A plot of a list at the top: its files are those its `y` names, else its own name is one. Relative to `file`."""
    base, where = parent(file), f"{display(file)}: plots: {display(name[:80])}"
    y, x = properties.get("y"), properties.get("x")
    if isinstance(y, Mapping):
        named = name if file == FILE_NAME else f"{file}:{name}"
        ys = [(resolve(base, str(written), where), field) for written, fields in y.items() for field in _fields(fields)]
    else:
        named = resolve(base, name, where)
        ys = [(named, field) for field in _fields(y)]
    xs = [(resolve(base, str(written), where), str(field)) for written, field in x.items()] if isinstance(x, Mapping) else None
    series = _paired(ys, xs, where) if xs else [Series(path, field, str(x or "")) for path, field in ys]
    return _definition(named, series, properties)


def _fields(written: object) -> list[str]:
    return [str(field) for field in written] if isinstance(written, list) else ["" if written is None else str(written)]


def _paired(ys: Sequence[tuple[str, str]], xs: Sequence[tuple[str, str]], where: str) -> list[Series]:
    """Which x goes with each y: the only one there is, that of the same file, or else the one at the same place."""
    own = dict(xs)
    if len(xs) == 1:
        over = list(xs) * len(ys)
    elif all(file in own for file, _ in ys):
        over = [(file, own[file]) for file, _ in ys]
    elif len(xs) == len(ys):
        over = list(xs)
    else:
        raise UsageError(f"{where}: x names {len(xs)} fields, and y {len(ys)}", "name one field as x, or as many as y has")
    pairs = zip(ys, over, strict=True)
    return [Series(file, field, x, x_file if x_file != file else "") for (file, field), (x_file, x) in pairs]


def _definition(name: str, series: Iterable[Series], properties: Mapping[str, Any]) -> Definition:
    template, title, x_label, y_label = (str(properties.get(key) or "") for key in ("template", "title", "x_label", "y_label"))
    return Definition(name, tuple(series), template, title, x_label, y_label, properties.get("header") is not False)


@dataclass(frozen=True, slots=True)
class Changes:
    """What is said about every plot drawn, instead of what dvcx.yaml says; "" and () say nothing."""

    x: str = ""
    y: tuple[str, ...] = ()
    template: str = ""
    title: str = ""
    x_label: str = ""
    y_label: str = ""
    header: bool = True


def changed(one: Definition, changes: Changes) -> Definition:
    """A definition with what the command line says instead."""
    series = one.series
    if changes.y:
        first = {item.file: item for item in reversed(one.series)}
        series = tuple(item._replace(y=field) for item in reversed(first.values()) for field in changes.y)
    if changes.x:
        series = tuple(item._replace(x=changes.x, x_file="") for item in series)
    return one._replace(
        series=series,
        template=changes.template or one.template,
        title=changes.title or one.title,
        x_label=changes.x_label or one.x_label,
        y_label=changes.y_label or one.y_label,
        header=changes.header and one.header,
    )


# Data


class Table(NamedTuple):
    """Rows of a file by field. `is_text`: its cells are text, to be read as numbers where they are some.

    `last` is the field to draw where none is named, "" for the last one of the first row.
    """

    rows: Sequence[Mapping[str, Any]]
    is_text: bool = False
    last: str = ""


def table_of(value: object, where: str) -> Table:
    """The records in a document: its list of mappings, wherever it is; several such lists side by side, row by row.

    Without any, the first list of plain values. Raises `UsageError` for a document that holds neither.
    """
    lists = list(_lists(value))
    records = [found for found in lists if found and all(isinstance(item, Mapping) for item in found)]
    # Lists whose records differ in their fields count only where there are no others, as DVC has it.
    even = [found for found in records if len({frozenset(item) for item in found}) == 1]
    chosen = even or records[:1]
    if chosen:
        last = str(next(reversed(records[0][0]), ""))
        return Table(chosen[0] if len(chosen) == 1 else _side_by_side(chosen), last=last)
    plain = (found for found in lists if found and not any(isinstance(item, list | Mapping) for item in found))
    values = next(plain, None)
    if values is None and value not in (None, [], {}):
        raise UsageError(f"{display(where)}: it holds no list of records to draw", "write a list: [{step: 0, loss: 0.5}]")
    return Table([{"value": item} for item in values or []])


def _lists(value: object) -> Iterator[list[Any]]:
    todo = [value]
    while todo:
        here = todo.pop()
        if isinstance(here, list):
            yield here
        elif isinstance(here, Mapping):
            todo += reversed(list(here.values()))


def _side_by_side(lists: Sequence[list[Mapping[str, Any]]]) -> list[Mapping[str, Any]]:
    rows: list[dict[str, Any]] = [{} for _ in range(max(map(len, lists)))]
    for records in lists:
        for row, record in zip(rows, records, strict=False):
            row.update(record)
    return list(rows)


class Point(NamedTuple):
    """One point of a plot. x and y are None where there is no (finite) value."""

    x: Any
    y: Any


class Line(NamedTuple):
    """The points of one series at one revision, the fields they are of, and the row each came from."""

    rev: str
    series: Series
    x: str
    y: str
    points: Sequence[Point]
    rows: Sequence[Mapping[str, Any]] = ()


class Rows(Sequence[Mapping[str, Any]]):
    """Rows of cells as mappings by field, each made when it is asked for: a million of them would fill the memory."""

    def __init__(self, names: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
        self._names = names
        self._cells = cells

    def __len__(self) -> int:
        return len(self._cells)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return Rows(self._names, self._cells[at])
        return dict(zip(self._names, self._cells[at], strict=False))


def line(rev: str, series: Series, table: Table, where: str, over: Table | None = None) -> Line:
    """The points of `series` in `table`; `over` is the table of its `x_file`, where it has one.

    Raises `UsageError` for a field that no row has, and for tables that do not have the same number of rows.
    """
    if not table.rows:
        return Line(rev, series, series.x or STEP, series.y or "y", [])
    fields = list(table.rows[0])
    x, y = series.x, series.y or (table.last if table.last != series.x else "") or _last(fields, series.x)
    _check_field(y, table, where)
    across = table if over is None else over
    _check_field(x, across, where if over is None else series.x_file)
    if len(across.rows) != len(table.rows):
        counts = f"{len(table.rows):,} rows, and {display(series.x_file)}, which has '{display(x)}', {len(across.rows):,}"
        raise UsageError(f"{display(where)}: {counts}", "x and y of one plot need a row for each point")
    read, read_x = _reading(table), _reading(across)
    points = [Point(read_x(other.get(x)) if x else step, read(row.get(y))) for step, (row, other) in _rows(table, across)]
    return Line(rev, series, x or STEP, y, points, table.rows)


def _last(fields: Sequence[str], x: str) -> str:
    return next((name for name in reversed(fields) if name != x), "")


def _check_field(field: str, table: Table, where: str) -> None:
    if not field or any(field in row for row in table.rows):
        return
    fields = list(table.rows[0]) if table.rows else []
    hint = did_you_mean(field, fields) or f"there are: {', '.join(map(display, fields[:20]))}"
    raise UsageError(f"{display(where)}: no field '{display(field)}'", hint)


def _rows(table: Table, across: Table) -> Iterable[tuple[int, tuple[Mapping[str, Any], Mapping[str, Any]]]]:
    return enumerate(((row, row) for row in table.rows) if across is table else zip(table.rows, across.rows, strict=True))


def _reading(table: Table) -> Callable[[Any], Any]:
    return _cell if table.is_text else _plain


def _cell(value: Any) -> Any:
    return None if value is None or value == "" else _plain(number(value))


def _plain(value: Any) -> Any:
    """A value as JSON and Vega-Lite know it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, int):
        # JavaScript has no larger integers.
        return value if abs(value) < 1 << 53 else float(value) if value.bit_length() < 1000 else None
    return value if value is None or isinstance(value, str) else json.dumps(value, default=str)


def spec(
    one: Definition, lines: Sequence[Line], template: object, name: str, *, whole: bool = False
) -> tuple[dict[str, Any], str]:
    """The Vega-Lite specification of a plot, and a note about what it leaves out.

    `template`, called `name`, holds anchors. With `whole`, points keep the other fields of their rows, for templates of users.
    """
    revisions = list(dict.fromkeys(one.rev for one in lines))
    labels = labels_of(one.series, lines)
    counted = "<DVCX_COUNTS>" in json.dumps(template)
    x_label = one.x_label or _common((line.x for line in lines), "x")
    y_label = one.y_label or _common((line.y for line in lines), "y")
    every = [point for line in lines for point in line.points]
    points, note = ([], "") if counted else _points(lines, labels, whole)
    counts = count_pairs(lines, labels) if counted else []
    values = vega.anchors(
        points=points,
        counts=counts,
        title=one.title or one.name,
        labels=(x_label, y_label),
        types=(_type(point.x for point in every), _type(point.y for point in every)),
        revisions=revisions,
        series=list(dict.fromkeys(labels[line.series] for line in lines)),
    )
    filled = vega.fill(template, values, f"template {display(name)}")
    if not isinstance(filled, dict):
        raise UsageError(f"template {display(name)}: it must be a JSON object", "dvcx plots templates linear shows one")
    return filled, note


def labels_of(declared: Sequence[Series], lines: Sequence[Line]) -> dict[Series, str]:
    """What to call each series: by its field, its file, or both, whichever tells them apart."""
    every = list(dict.fromkeys([*declared, *(line.series for line in lines)]))
    names = {**{series: series.y for series in declared}, **{line.series: line.y for line in lines}}
    files = {series.file for series in every}
    if len(files) == 1:
        return names
    if len(files) == len(every):
        return {series: series.file for series in every}
    return {series: f"{series.file}: {names[series]}" for series in every}


def _points(lines: Sequence[Line], labels: Mapping[Series, str], whole: bool) -> tuple[list[dict[str, Any]], str]:
    total = sum(len(line.points) for line in lines)
    step = max(1, math.ceil(total / MAX_POINTS))
    rows: list[dict[str, Any]] = []
    for one in lines:
        for at in thinned(len(one.points), step):
            point = one.points[at]
            own = _own(one, at) if whole else {}
            rows.append({**own, "x": point.x, "y": point.y, "rev": one.rev, "series": labels[one.series]})
    note = f"{total:,} points: one in {step:,} is drawn" if step > 1 else "" if total else "there are no rows to draw"
    return rows, note


def _own(line: Line, at: int) -> dict[str, Any]:
    """The other fields of a point's row, and what DVC calls its file and field, for templates of users."""
    fields = {str(key): _plain(value) for key, value in line.rows[at].items()} if line.rows else {}
    return {**fields, "filename": line.series.file, "field": line.y}


def thinned(count: int, step: int) -> list[int]:
    """Which of `count` points to draw: one of every `step`, the first and the last among them."""
    chosen = list(range(0, count, step))
    if count and chosen[-1] != count - 1:
        chosen.append(count - 1)
    return chosen


def count_pairs(lines: Sequence[Line], labels: Mapping[Series, str]) -> list[dict[str, Any]]:
    """How often each pair of x and y occurs, with its share among those of the same y; pairs that never occur are 0.

    In the order of y, then x: numbers by their size, then texts.
    """
    names = sorted({str(value) for line in lines for point in line.points for value in (point.x, point.y)}, key=_rank)
    order = {name: at for at, name in enumerate(names)}
    pairs = [(x, y) for y in names for x in names] if len(names) ** 2 * len(lines) <= MAX_POINTS else []
    counted = [_counted(line, pairs) for line in lines]
    most = max((max(counts.values(), default=0) for counts in counted), default=0)
    rows: list[dict[str, Any]] = []
    for one, counts in zip(lines, counted, strict=True):
        sums: dict[str, int] = {}
        for (_, y), count in counts.items():
            sums[y] = sums.get(y, 0) + count
        for (x, y), count in sorted(counts.items(), key=lambda item: (order[item[0][1]], order[item[0][0]])):
            share = count / sums[y] if sums[y] else 0.0
            row = {"x": x, "y": y, "rev": one.rev, "series": labels[one.series], "count": count, "share": round(share, 6)}
            rows.append({**row, "dark": count * 2 > most})
    return rows


def _rank(name: str) -> tuple[bool, float, str]:
    value = number(name)
    is_finite = isinstance(value, int | float) and math.isfinite(value)
    return (not is_finite, float(value) if is_finite else 0.0, name)  # type: ignore[arg-type]


def _counted(line: Line, pairs: Iterable[tuple[str, str]]) -> dict[tuple[str, str], int]:
    counts = dict.fromkeys(pairs, 0)
    for point in line.points:
        pair = (str(point.x), str(point.y))
        counts[pair] = counts.get(pair, 0) + 1
    if len(counts) > MAX_POINTS:
        message = f"{display(line.series.file)}: {len(counts):,} different pairs are too many for a matrix"
        raise UsageError(message, "draw it with another template: --template scatter")
    return counts


def _common(names: Iterable[str], otherwise: str) -> str:
    every = set(names)
    return every.pop() if len(every) == 1 else otherwise


def _type(values: Iterable[Any]) -> str:
    known = (value for value in values if value is not None)
    return "quantitative" if all(isinstance(value, int | float) for value in known) else "nominal"
