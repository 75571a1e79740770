"""The graph as a picture: boxes and lines in plain text, Mermaid, and DOT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from dvcx.errors import display

# A picture with more bends than this would be too large to read; it is written as a list instead.
_MOST_BENDS = 20_000
_MOST_COLUMNS = 4_000
_GAP = 3

_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_ASCII = {0: " ", _UP | _DOWN: "|", _LEFT | _RIGHT: "-", _UP: "|", _DOWN: "|", _LEFT: "-", _RIGHT: "-"}
_LINES = " │││─┘┐┤─└┌├─┴┬┼"


def ascii(nodes: Sequence[str], edges: Iterable[tuple[str, str]], *, lines: bool = False) -> str:
    """A picture of boxes, each above what depends on it; an edge is (from, to) and flows downwards.

    Parts of the graph that are not connected stand below one another. With `lines` it uses box-drawing characters
    instead of `+`, `-` and `|`. A graph too large to draw becomes a list of `to <- from, from`.
    """
    known = list(dict.fromkeys(nodes))
    wanted = set(known)
    pairs = [(a, b) for a, b in dict.fromkeys(edges) if a in wanted and b in wanted and a != b]
    pictures = [_draw(part, within, lines) for part, within in _parts(known, pairs)]
    if any(picture is None for picture in pictures):
        return _list(known, pairs)
    return "\n".join(picture for picture in pictures if picture)


def mermaid(nodes: Sequence[str], edges: Iterable[tuple[str, str]]) -> str:
    """A Mermaid flowchart, as GitHub and many editors draw it."""
    number = {name: f"node{at}" for at, name in enumerate(dict.fromkeys(nodes), 1)}
    rows = ["flowchart TD"]
    rows += [f'\t{key}["{_html(name)}"]' for name, key in number.items()]
    rows += [f"\t{number[a]}-->{number[b]}" for a, b in edges]
    return "\n".join(rows) + "\n"


def dot(nodes: Sequence[str], edges: Iterable[tuple[str, str]]) -> str:
    """A DOT digraph, for graphviz."""
    rows = ["digraph {", "  node [shape=box];"]
    rows += [f"  {_quoted(name)};" for name in dict.fromkeys(nodes)]
    rows += [f"  {_quoted(a)} -> {_quoted(b)};" for a, b in edges]
    return "\n".join([*rows, "}"]) + "\n"


def _quoted(name: str) -> str:
    text = display(name).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def _html(name: str) -> str:
    text = display(name)
    for char, entity in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ('"', "&quot;")):
        text = text.replace(char, entity)
    return text


def _list(nodes: Sequence[str], edges: Iterable[tuple[str, str]]) -> str:
    needs: dict[str, list[str]] = {name: [] for name in nodes}
    for a, b in edges:
        needs[b].append(a)
    rows = [display(name) + (" <- " + ", ".join(map(display, needs[name])) if needs[name] else "") for name in nodes]
    return "\n".join(rows) + "\n"


def _parts(
    nodes: Sequence[str], edges: Sequence[tuple[str, str]]
) -> list[tuple[list[str], list[tuple[str, str]]]]:
    """The connected parts, in the order of their first node."""
    near: dict[str, list[str]] = {name: [] for name in nodes}
    for a, b in edges:
        near[a].append(b)
        near[b].append(a)
    part: dict[str, int] = {}
    count = 0
    for name in nodes:
        if name in part:
            continue
        todo = [name]
        part[name] = count
        while todo:
            for other in near[todo.pop()]:
                if other not in part:
                    part[other] = count
                    todo.append(other)
        count += 1
    parts: list[tuple[list[str], list[tuple[str, str]]]] = [([], []) for _ in range(count)]
    for name in nodes:
        parts[part[name]][0].append(name)
    for edge in edges:
        parts[part[edge[0]]][1].append(edge)
    return parts


@dataclass(slots=True, eq=False)
class _Box:
    """A node in its layer, or a bend (`text` empty): where the lines of a node pass a layer on their way down."""

    text: str
    layer: int
    x: int = 0
    place: float = 0.0
    above: list[_Box] = field(default_factory=list)
    below: list[_Box] = field(default_factory=list)
    arrivals: int = 0

    @property
    def width(self) -> int:
        return max(len(self.text) + 4, 2 * self.arrivals + 1) if self.text else 1

    @property
    def middle(self) -> int:
        return self.x + self.width // 2


def _draw(nodes: Sequence[str], edges: Sequence[tuple[str, str]], lines: bool) -> str | None:
    layer_of = _layers(nodes, edges)
    if layer_of is None:
        return None
    rows = _boxes(nodes, edges, layer_of)
    if rows is None:
        return None
    nets = [_nets(row) for row in rows]
    _arrange(rows)
    _spread(rows)
    if max(box.x + box.width for row in rows for box in row) > _MOST_COLUMNS:
        return None
    canvas = _Canvas()
    y = 0
    for row, below in zip(rows, nets, strict=True):
        for box in row:
            canvas.box(box, y)
        y += 3
        y += _route(canvas, below, y) if below else 0
    return canvas.text(_LINES if lines else "")


def _layers(nodes: Sequence[str], edges: Sequence[tuple[str, str]]) -> dict[str, int] | None:
    """The layer of each node: below everything it depends on, and a source right above what needs it first."""
    below: dict[str, list[str]] = {name: [] for name in nodes}
    waiting = dict.fromkeys(nodes, 0)
    for a, b in edges:
        below[a].append(b)
        waiting[b] += 1
    sources = [name for name in nodes if not waiting[name]]
    layer = dict.fromkeys(nodes, 0)
    todo = list(sources)
    done = 0
    while todo:
        name = todo.pop()
        done += 1
        for other in below[name]:
            layer[other] = max(layer[other], layer[name] + 1)
            waiting[other] -= 1
            if not waiting[other]:
                todo.append(other)
    for name in sources:
        if below[name]:
            layer[name] = min(layer[other] for other in below[name]) - 1
    return layer if done == len(nodes) else None


def _boxes(nodes: Sequence[str], edges: Sequence[tuple[str, str]], layer_of: Mapping[str, int]) -> list[list[_Box]] | None:
    """The boxes by layer, joined. All lines of one node share their bends, like a trunk its branches."""
    boxes = {name: _Box(display(name), layer_of[name]) for name in nodes}
    rows: list[list[_Box]] = [[] for _ in range(max(layer_of.values()) + 1)]
    for box in boxes.values():
        rows[box.layer].append(box)
    trunks: dict[str, list[_Box]] = {name: [boxes[name]] for name in nodes}
    bends = 0
    for a, b in edges:
        trunk, end = trunks[a], boxes[b]
        while trunk[-1].layer < end.layer - 1:
            bend = _Box("", trunk[-1].layer + 1)
            rows[bend.layer].append(bend)
            _join(trunk[-1], bend)
            trunk.append(bend)
            bends += 1
            if bends > _MOST_BENDS:
                return None
        _join(trunk[end.layer - 1 - boxes[a].layer], end)
    return rows


def _join(above: _Box, below: _Box) -> None:
    above.below.append(below)
    below.above.append(above)


def _arrange(rows: list[list[_Box]]) -> None:
    """Order each layer by the mean place of its neighbours, down and up a few times, and keep the fewest crossings."""
    _number(rows)
    best, fewest = [list(row) for row in rows], _crossings(rows)
    for turn in range(8):
        if not fewest:
            break
        down = turn % 2 == 0
        for row in rows if down else reversed(rows):
            want = {id(box): _mean(box.above if down else box.below, box.place) for box in row}
            row.sort(key=lambda box: want[id(box)])
            _number([row])
        crossings = _crossings(rows)
        if crossings < fewest:
            best, fewest = [list(row) for row in rows], crossings
    rows[:] = best
    _number(rows)


def _number(rows: list[list[_Box]]) -> None:
    for row in rows:
        for place, box in enumerate(row):
            box.place = float(place)


def _mean(boxes: Sequence[_Box], otherwise: float) -> float:
    return sum(box.place for box in boxes) / len(boxes) if boxes else otherwise


def _crossings(rows: list[list[_Box]]) -> int:
    """How often lines cross: inversions among the ends of lines sorted by their starts."""
    from bisect import bisect_right, insort

    count = 0
    for row in rows:
        seen: list[float] = []
        for box in row:
            ends = [other.place for other in box.below]
            count += sum(len(seen) - bisect_right(seen, end) for end in ends)
            for end in ends:
                insort(seen, end)
    return count


def _spread(rows: list[list[_Box]]) -> None:
    """Give every box its column: as near to the middle of its neighbours as its layer allows."""
    for row in rows:
        for box, other in zip([None, *row], row, strict=False):
            other.x = box.x + box.width + _GAP if box else 0
    for turn in range(8):
        down = turn % 2 == 1
        for row in rows if down else reversed(rows):
            _settle(row, down)
    left = min(box.x for row in rows for box in row)
    for row in rows:
        for box in row:
            box.x -= left


def _settle(row: list[_Box], down: bool) -> None:
    """Move the boxes of a layer towards where they want to be, in order and without touching (pool adjacent violators)."""
    wanted = []
    offset = 0
    offsets = []
    for box in row:
        near = box.above if down else box.below
        middle = sum(other.middle for other in near) / len(near) if near else box.middle
        wanted.append(middle - box.width // 2 - offset)
        offsets.append(offset)
        offset += box.width + _GAP
    blocks: list[tuple[float, int]] = []
    for want in wanted:
        total, count = want, 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            before, size = blocks.pop()
            total, count = total + before, count + size
        blocks.append((total, count))
    columns = [int(total / count + 0.5 if total >= 0 else total / count - 0.5) for total, count in blocks for _ in range(count)]
    for box, column, offset in zip(row, columns, offsets, strict=True):
        box.x = column + offset


@dataclass(slots=True, eq=False)
class _Net:
    """Lines drawn as one: from boxes of one layer to boxes of the next, from every one to every one.

    `starts` and `ends` are the columns where it leaves and arrives, `track` the row of its horizontal line.
    """

    sources: list[_Box]
    targets: list[_Box]
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    track: int = -1

    @property
    def reach(self) -> tuple[int, int]:
        return min(*self.starts, *self.ends), max(*self.starts, *self.ends)


def _nets(row: list[_Box]) -> list[_Net]:
    """The nets that leave a layer: boxes that need to reach the same boxes share one."""
    nets: dict[tuple[int, ...], _Net] = {}
    for box in row:
        if box.below:
            key = tuple(sorted(id(other) for other in box.below))
            nets.setdefault(key, _Net([], box.below)).sources.append(box)
    for net in nets.values():
        for target in net.targets:
            target.arrivals += 1
    return list(nets.values())


def _route(canvas: _Canvas, nets: list[_Net], y: int) -> int:
    """Draw the lines of the nets between two layers in the rows from `y` on; how many rows that took."""
    _arrive(nets)
    bent = [net for net in nets if len(net.starts) > 1 or net.starts != net.ends]
    _make_room(bent)
    tracks = _assign_tracks(bent)
    height = tracks + 2 if tracks else 1
    for net in nets:
        at = y + 1 + net.track if net.track >= 0 else y
        for box, start in zip(net.sources, net.starts, strict=True):
            if not box.text and start != box.middle:
                canvas.down(box.middle, y - 1, y, net)
                canvas.across(min(box.middle, start), max(box.middle, start), y, net)
                canvas.down(start, y, at, net)
            else:
                canvas.down(start, y - 1, at, net)
        if net.track >= 0:
            canvas.across(*net.reach, at, net)
        for end in net.ends:
            canvas.down(end, at, y + height, net)
    return height


def _arrive(nets: list[_Net]) -> None:
    """Give every net its columns; nets that arrive at one box do so side by side, or they would seem to be one."""
    arriving: dict[int, list[_Net]] = {}
    targets: dict[int, _Box] = {}
    for net in nets:
        net.starts = [box.middle for box in net.sources]
        for target in net.targets:
            targets[id(target)] = target
            arriving.setdefault(id(target), []).append(net)
    for key, box in targets.items():
        count = len(arriving[key])
        step = max(2, min(4, (box.width - 3) // (count - 1))) if count > 1 else 0
        column = box.middle - step * (count - 1) // 2
        for net in sorted(arriving[key], key=lambda net: sum(net.starts) / len(net.starts)):
            net.ends.append(column)
            column += step


def _make_room(nets: list[_Net]) -> None:
    """Let a line start a little to the side where two lines would each have to turn before the other one arrives."""
    arriving = {end: net for net in nets for end in net.ends}
    before: dict[int, set[int]] = {}
    for net in nets:
        for number, start in enumerate(net.starts):
            other = arriving.get(start, net)
            if other is net:
                continue
            if _reaches(before, id(net), id(other)):
                net.starts[number] = next((start + step for step in (1, -1) if start + step not in arriving), start)
            else:
                before.setdefault(id(other), set()).add(id(net))


def _assign_tracks(nets: list[_Net]) -> int:
    """A track (row) for the horizontal line of each net, so that none lies on another; how many there are.

    A net that starts above the end of another one must turn before that one arrives.
    """
    starts: dict[int, _Net] = {start: net for net in nets for start in net.starts}
    before = {id(net): [starts[end] for end in net.ends if starts.get(end, net) is not net] for net in nets}
    used: list[list[tuple[int, int]]] = []
    todo = sorted(nets, key=lambda net: (min(net.ends), min(net.starts)))
    while todo:
        net = next((net for net in todo if all(other.track >= 0 for other in before[id(net)])), todo[0])
        todo.remove(net)
        low, high = net.reach
        at = max((other.track + 1 for other in before[id(net)]), default=0)
        while at < len(used) and any(low <= right + 1 and left <= high + 1 for left, right in used[at]):
            at += 1
        if at == len(used):
            used.append([])
        used[at].append((low, high))
        net.track = at
    return len(used)


def _reaches(before: Mapping[int, set[int]], start: int, end: int) -> bool:
    """Whether `end` has to turn before `start` already, directly or not."""
    todo, seen = [start], set()
    while todo:
        key = todo.pop()
        if key == end:
            return True
        if key not in seen:
            seen.add(key)
            todo += before.get(key, ())
    return False


class _Canvas:
    """Characters by row and column. A line is kept as the directions it leaves a cell in, by the net it belongs to.

    So corners and branches draw themselves, and a cell where only different nets meet is a crossing.
    """

    def __init__(self) -> None:
        self._cells: dict[int, dict[int, str | dict[int, int]]] = {}

    def box(self, box: _Box, y: int) -> None:
        if not box.text:
            self.down(box.x, y - 1, y + 3, None)
            return
        left, right = box.x, box.x + box.width - 1
        self.across(left, right, y, None)
        self.across(left, right, y + 2, None)
        self.down(left, y, y + 2, None)
        self.down(right, y, y + 2, None)
        for at, char in enumerate(box.text.center(box.width - 2), left + 1):
            self._cells.setdefault(y + 1, {})[at] = char

    def across(self, left: int, right: int, y: int, net: _Net | None) -> None:
        for x in range(left, right + 1):
            self._add(x, y, (_LEFT if x > left else 0) | (_RIGHT if x < right else 0), net)

    def down(self, x: int, top: int, bottom: int, net: _Net | None) -> None:
        for y in range(top, bottom + 1):
            self._add(x, y, (_UP if y > top else 0) | (_DOWN if y < bottom else 0), net)

    def _add(self, x: int, y: int, direction: int, net: _Net | None) -> None:
        cell = self._cells.setdefault(y, {}).setdefault(x, {})
        if isinstance(cell, dict):
            cell[id(net)] = cell.get(id(net), 0) | direction

    def text(self, lines: str) -> str:
        rows = []
        for y in sorted(self._cells):
            row = self._cells[y]
            rows.append("".join(_char(row.get(x, " "), lines) for x in range(max(row) + 1)).rstrip())
        return "\n".join(rows) + "\n"


def _char(cell: str | dict[int, int], lines: str) -> str:
    if isinstance(cell, str):
        return cell
    directions = 0
    for direction in cell.values():
        directions |= direction
    across, down = _LEFT | _RIGHT, _UP | _DOWN
    if directions == across | down and not any(direction & across and direction & down for direction in cell.values()):
        directions = down
    return lines[directions] if lines else _ASCII.get(directions, "+")
