"""Bars and matrices as text, as wide as they may be; without colours, so that they are the same in a file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dvcx.cli.output import columns
from dvcx.core.metrics import is_number, text
from dvcx.core.plots import Line
from dvcx.errors import display, width_of

MOST_BARS = 60
_EIGHTHS = " ▏▎▍▌▋▊▉"


def bars(lines: Sequence[Line], names: Sequence[str], width: int, *, longest_first: bool) -> Iterator[str]:
    """A bar for each point: y is what it is called, x how long it is. `names` are those of the lines, "" for a single one."""
    rows = [(str(point.y), name, point.x) for line, name in zip(lines, names, strict=True) for point in line.points]
    rows = [row for row in rows if is_number(row[2])]
    order: dict[str, float] = {}
    for label, _, value in rows:
        order.setdefault(label, value)
    labels = sorted(order, key=lambda label: -order[label]) if longest_first else list(order)
    most = max((abs(value) for _, _, value in rows), default=0)
    shown = _grouped(rows, labels)[:MOST_BARS]
    facts = columns([(_cut(label, width // 3), _cut(name, width // 4), text(value, 4)) for label, name, value in shown])
    side = max(map(width_of, facts), default=0)
    room = max(4, width - side - 2)
    for fact, (_, _, value) in zip(facts, shown, strict=True):
        yield f"{fact}{' ' * (side - width_of(fact))}  {_bar(abs(value) / most if most else 0, room)}".rstrip()
    if len(rows) > len(shown):
        yield f"{len(rows) - len(shown):,} more bars are on the page: dvcx plots show --open"


def _grouped(rows: Sequence[tuple[str, str, Any]], labels: Sequence[str]) -> list[tuple[str, str, Any]]:
    by_label: dict[str, list[tuple[str, str, Any]]] = {}
    for row in rows:
        by_label.setdefault(row[0], []).append(row)
    return [row for label in labels for row in by_label[label]]


def _bar(share: float, room: int) -> str:
    eighths = round(share * room * 8)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()


def matrix(counts: Sequence[Mapping[str, Any]], field: str, corner: str, width: int) -> list[str]:
    """Counts (or shares, as `field` says) as a table: y down, x across. `corner` says which is which."""
    across = list(dict.fromkeys(row["x"] for row in counts))
    down = list(dict.fromkeys(row["y"] for row in counts))
    at = {(row["x"], row["y"]): row[field] for row in counts}
    rows = [[corner, *(_cut(x, 12) for x in across)]]
    rows += [[_cut(y, width // 3), *(_cell(at.get((x, y), 0)) for x in across)] for y in down]
    found = columns(rows)
    if max(map(width_of, found), default=0) <= width:
        return found
    return [f"a matrix of {len(down)} by {len(across)} does not fit into {width} columns: the page shows it"]


def _cell(value: float) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _cut(label: str, width: int) -> str:
    shown = display(label)
    if width_of(shown) <= width:
        return shown
    while shown and width_of(shown) >= width:
        shown = shown[:-1]
    return shown + "…"
