"""Values of params and metrics files: flat, by key, compared, with the direction in which a metric is better, and as text."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from dvcx.core.pipeline.params import MISSING, Missing, same
from dvcx.errors import UsageError, display, width_of

Scalar: TypeAlias = str | int | float | bool | None
Value: TypeAlias = Scalar | tuple[Scalar, ...]
Values: TypeAlias = dict[str, Value]

ADDED, DELETED, MODIFIED, UNCHANGED = "added", "deleted", "modified", "unchanged"
HIGHER, LOWER = "higher", "lower"
BETTER, WORSE = "better", "worse"
PRECISION = 5
# JSON has no word for these three; the text is one that Python and JavaScript read as a number.
NAN, INFINITY, MINUS_INFINITY = "NaN", "Infinity", "-Infinity"


def flatten(values: object) -> Values:
    """Nested mappings as one, by dotted keys, in their order: `{"train": {"lr": 1}}` is `{"train.lr": 1}`.

    A list of plain values stays one value; what another list holds is counted from 0 (`layers.0.size`). An empty mapping
    is the text `{}`. A single value has the key "".
    """
    flat: Values = {}
    for key, value in _leaves("", values):
        flat.setdefault(key, value)
    return flat


def _leaves(key: str, value: object) -> Iterator[tuple[str, Value]]:
    if isinstance(value, Mapping):
        if not value and key:
            yield key, "{}"
        for name, inner in value.items():
            yield from _leaves(f"{key}.{name}" if key else str(name), inner)
    elif isinstance(value, list | tuple):
        if any(isinstance(item, dict | list | tuple) for item in value):
            for number, inner in enumerate(value):
                yield from _leaves(f"{key}.{number}" if key else str(number), inner)
        else:
            yield key, tuple(_scalar(item) for item in value)
    else:
        yield key, _scalar(value)


def _scalar(value: Any) -> Scalar:
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def last_row(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Values:
    """The last row of a table as values by column: what a log of training has reached. Empty cells are left out."""
    if not rows:
        return {}
    return {name: number(cell) for name, cell in zip(header, rows[-1], strict=False) if name.strip() and cell.strip()}


def number(cell: str) -> Scalar:
    """The integer or decimal number a cell of a table holds, else its text."""
    text = cell.strip()
    if not text.isascii() or len(text) > 300 or "_" in text:
        return cell
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return cell


@dataclass(frozen=True, slots=True)
class Difference:
    """One key of one file on two sides. `delta` is new less old, where both are numbers and that is one.

    `state`: added, deleted, modified or unchanged. `direction`: higher, lower or "" when none is declared; `verdict`: better,
    worse or "". Of an added key `old` is null, of a deleted one `new` is.
    """

    path: str
    key: str
    state: str
    old: Value
    new: Value
    delta: float | int | None
    direction: str
    verdict: str


def compare(path: str, old: Values | None, new: Values | None, directions: Mapping[str, str] | None = None) -> list[Difference]:
    """Every key of both sides of the file `path`, in the order of the new side, those that are gone last.

    With `directions`, as metrics have them (though there may be none), 1 and 1.0 are one number; parameters tell them apart.
    """
    before, after = old or {}, new or {}
    found = []
    for key in (*after, *(key for key in before if key not in after)):
        direction = direction_of(key, directions or {})
        is_metric = directions is not None
        found.append(_difference(path, key, before.get(key, MISSING), after.get(key, MISSING), direction, is_metric))
    return found


def _difference(
    path: str, key: str, old: Value | Missing, new: Value | Missing, direction: str, is_metric: bool
) -> Difference:
    if isinstance(old, Missing):
        assert not isinstance(new, Missing)
        return Difference(path, key, ADDED, None, new, None, direction, "")
    if isinstance(new, Missing):
        return Difference(path, key, DELETED, old, None, None, direction, "")
    if same(old, new) or (is_metric and is_number(old) and is_number(new) and old == new):
        return Difference(path, key, UNCHANGED, old, new, None, direction, "")
    delta = _delta(old, new)
    return Difference(path, key, MODIFIED, old, new, delta, direction, _verdict(old, new, direction))


def _delta(old: Value, new: Value) -> float | int | None:
    if not (is_number(old) and is_number(new)):
        return None
    try:
        delta = new - old  # type: ignore[operator]
    except OverflowError:
        return None
    return delta if isinstance(delta, int) or math.isfinite(delta) else None


def _verdict(old: Value, new: Value, direction: str) -> str:
    """Which of two numbers is better. What is no number any more (nan) is worse; what became one again, better."""
    if not direction or not (is_number(old) and is_number(new)):
        return ""
    was, now = old != old, new != new
    if was or now:
        return "" if was and now else WORSE if now else BETTER
    if old == new:
        return ""
    higher = new > old  # type: ignore[operator]
    return BETTER if higher == (direction == HIGHER) else WORSE


def is_number(value: object) -> bool:
    """Whether a value is an integer or decimal number (true and false are none)."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def directions_of(meta: Mapping[str, Any], where: str) -> dict[str, str]:
    """The directions that `meta` of a metrics file declares as `better`: `higher` for all keys, or by key.

    Raises `UsageError` naming `where` for another word.
    """
    declared = meta.get("better")
    if declared is None:
        return {}
    pairs = dict(_leaves("", declared)) if isinstance(declared, Mapping) else {"": declared}
    for key, word in pairs.items():
        if word not in (HIGHER, LOWER):
            shown = f"'{display(str(word)[:80])}'" + (f" for '{display(key[:80])}'" if key else "")
            message = f"{where}: meta: 'better' must be higher or lower, not {shown}"
            raise UsageError(message, "for example: better: {loss: lower}")
    return {str(key): str(word) for key, word in pairs.items()}


def direction_of(key: str, directions: Mapping[str, str]) -> str:
    """The direction for `key`: its own, else that of a key above it (`train` for `train.loss`), else that of one of its
    parts, the last first (`loss`, or `acc` for `test.acc.top1`), else the one for the whole file; "" without any."""
    if not directions:
        return ""
    above = key
    while above:
        if above in directions:
            return directions[above]
        above = above.rpartition(".")[0]
    return next((directions[part] for part in reversed(key.split(".")) if part in directions), directions.get("", ""))


def plain(value: Value) -> Value:
    """`value` as JSON can say it: numbers that are not finite as the texts NaN, Infinity and -Infinity."""
    if isinstance(value, tuple):
        return tuple(_finite(item) for item in value)
    return _finite(value)


def _finite(value: Scalar) -> Scalar:
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return NAN if value != value else INFINITY if value > 0 else MINUS_INFINITY


# Text


def text(value: Value, precision: int = 0) -> str:
    """A value for people. `precision` is the significant digits of decimal numbers, 0 for all of them."""
    if isinstance(value, tuple):
        return f"[{', '.join(text(item, precision) for item in value)}]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        if not math.isfinite(value):
            return "nan" if value != value else "inf" if value > 0 else "-inf"
        return f"{value:.{precision}g}" if precision else repr(value)
    return str(value)


def delta_text(delta: float | int | None, precision: int = 0) -> str:
    """A difference with its sign, "" for none."""
    return "" if delta is None else ("+" if delta > 0 else "") + text(delta, precision)


def markdown(rows: Iterable[Sequence[str]]) -> str:
    """Rows, the first of them the header, as a table of GitHub's Markdown, padded so that it reads well as text, too."""
    cells = [[_markdown_cell(cell) for cell in row] for row in rows]
    widths = [max(3, *map(width_of, column)) for column in zip(*cells, strict=True)]
    lines = [[cell + " " * (width - width_of(cell)) for cell, width in zip(row, widths, strict=True)] for row in cells]
    lines.insert(1, ["-" * width for width in widths])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _markdown_cell(cell: str) -> str:
    """Text that Markdown shows as it is: no new column, no HTML, no emphasis from a file's name."""
    shown = display(cell).replace("&", "&amp;").replace("<", "&lt;")
    return "".join("\\" + char if char in "\\|`*[" else char for char in shown)
