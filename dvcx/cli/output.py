"""How results look: JSON, sizes, counts, columns, colours. No terminal library: these run on the quick path."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any, TextIO

from dvcx.errors import amount, disk_refused, display, width_of

_RESET = "\x1b[0m"
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}

STATE_STYLES = {
    "added": "green",
    "tracked": "green",
    "placed": "green",
    "ran": "green",
    "would run": "yellow",
    "would restore": "green",
    "might run": "yellow",
    "skipped": "yellow",
    "restored": "green",
    "known": "green",
    "modified": "yellow",
    "updated": "yellow",
    "replaced": "yellow",
    "renamed": "yellow",
    "stale": "yellow",
    "upstream": "yellow",
    "deleted": "red",
    "removed": "red",
    "missing": "red",
    "conflict": "red",
    "failed": "red",
    "corrupt": "red",
    "truncated": "red",
    "misplaced": "red",
    "forged": "red",
    "broken": "red",
    "unreadable": "red",
    "absent": "red",
    "record": "red",
}


class Paint:
    """Colours one stream's text, or leaves it alone when that stream shows none."""

    def __init__(self, on: bool) -> None:
        self.on = on

    def __call__(self, text: str, style: str) -> str:
        code = _STYLES.get(style) if self.on else None
        return f"\x1b[{code}m{text}{_RESET}" if code else text

    def state(self, word: str, width: int = 0) -> str:
        """`word` padded to `width`, in the colour of that state."""
        return self(word.ljust(width), STATE_STYLES.get(word, ""))


def paint_for(stream: TextIO, environ: Mapping[str, str]) -> Paint:
    """Colours on a terminal, unless NO_COLOR is set or the terminal is dumb."""
    return Paint(is_terminal(stream) and environ.get("TERM") != "dumb" and not environ.get("NO_COLOR"))


def is_terminal(stream: TextIO | None) -> bool:
    """Whether a person sits behind `stream`."""
    try:
        return stream is not None and stream.isatty()
    except ValueError:
        return False


def write(text: str) -> None:
    """Write to stdout and flush. `BrokenPipeError` passes; any other refusal becomes a DvcxError."""
    if sys.stdout is None:
        return  # started without one
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_stdout()
        raise disk_refused(error, "writing the result", "standard output") from error


def drop_stdout() -> None:
    """Send what is still buffered for stdout nowhere, so that closing it at exit cannot fail again."""
    try:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, sys.stdout.fileno())
        os.close(null)
    except (OSError, ValueError):
        return


def to_json(result: Any) -> str:
    """`result` (a dataclass of plain values, or plain values) as JSON with a newline. Sizes are bytes."""
    import json

    value = asdict(result) if is_dataclass(result) and not isinstance(result, type) else result
    return json.dumps(value, indent=2) + "\n"


size = amount


def delta(count: int) -> str:
    """A difference in bytes with its sign."""
    return f"{'+' if count > 0 else '-'}{size(abs(count))}" if count else "the same size"


def plural(count: int, noun: str, many: str = "") -> str:
    """`1 file`, `2,000 files`."""
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def files(objects: int, listings: int) -> str:
    """So many objects, `listings` of them those of directories, in the words of users: `1 file and 2 listings`."""
    told = [plural(objects - listings, "file")] if objects > listings or not listings else []
    return " and ".join([*told, *([plural(listings, "listing")] if listings else [])])


def seconds(amount: float) -> str:
    """A duration for people: 0.4 s, 75 s, 3 min 20 s, 2 h 5 min."""
    if amount < 100:
        return f"{amount:.1f} s" if amount < 10 else f"{amount:.0f} s"
    minutes, rest = divmod(round(amount), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def columns(rows: Iterable[Sequence[str]], indent: str = "") -> list[str]:
    """`rows` as lines of aligned, left-justified columns. Cells are made safe to print; a column without text is left out."""
    cells = [[display(cell) for cell in row] for row in rows]
    filled = [any(column) for column in zip(*cells, strict=True)]
    cells = [[cell for cell, keep in zip(row, filled, strict=True) if keep] for row in cells]
    widths = [max(map(width_of, column)) for column in zip(*cells, strict=True)]
    return [
        (indent + "  ".join(cell + " " * (width - width_of(cell)) for cell, width in zip(row, widths, strict=True))).rstrip()
        for row in cells
    ]


def outline(value: Any, indent: str = "") -> list[str]:
    """Any result as indented `name: value` lines, for answers that are a list of facts."""
    items = asdict(value) if is_dataclass(value) and not isinstance(value, type) else value
    lines: list[str] = []
    for name, item in items.items():
        label = f"{indent}{str(name).replace('_', ' ')}"
        if isinstance(item, dict):
            lines += [f"{label}:", *outline(item, indent + "  ")]
        elif isinstance(item, (list, tuple)):
            if not item:
                continue
            if isinstance(item[0], dict):
                lines.append(f"{label}:")
                lines += columns([[_plain(cell) for cell in row.values()] for row in item], indent + "  ")
            else:
                lines.append(f"{label}: {', '.join(_plain(cell) for cell in item)}")
        elif item not in ("", None):
            lines.append(f"{label}: {_plain(item)}")
    return lines


def _plain(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(item) for item in value)
    return display(str(value))
