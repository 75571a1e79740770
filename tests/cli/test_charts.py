"""Plots as text: bars and matrices of any width, curves whose lines are told apart without colours, pictures by their size."""

from __future__ import annotations

import pytest

from dvcx.cli import charts, plots
from dvcx.cli.face import Face
from dvcx.cli.output import Paint
from dvcx.core.page import Picture
from dvcx.core.plots import Definition, Line, Point, Series, count_pairs
from dvcx.errors import width_of
from dvcx.ops.plots import Drawing

ITEM = Series("f.json", "name", "v")


def bars(rev: str, *points: tuple[float | None, str]) -> Line:
    return Line(rev, ITEM, "v", "name", [Point(*point) for point in points])


def drawn(lines: list[Line], template: str, width: int = 60, title: str = "T") -> list[str]:
    face = Face()
    face.paint = Paint(False)
    one = Definition("p", tuple(dict.fromkeys(line.series for line in lines)), template, title)
    return plots._text(face, Drawing(one, tuple(lines), ()), width).splitlines()


def test_bars_are_as_long_as_their_numbers() -> None:
    line = bars("HEAD", (1, "a"), (-4, "long name"), (None, "none"), (2.5, "数"))
    assert drawn([line], "bar_horizontal", 30) == [
        "T",
        "a          1    ███▌",
        "long name  -4   ██████████████",
        "数         2.5  ████████▊",
    ]
    longest = drawn([bars("HEAD", (1, "a"), (3, "b"))], "bar_horizontal_sorted")
    assert [row.split()[0] for row in longest[1:]] == ["b", "a"]
    both = drawn([bars("HEAD", (1, "a")), bars("workspace", (2, "a"))], "bar_horizontal", 25)
    assert [row.split()[:3] for row in both[1:]] == [["a", "HEAD", "1"], ["a", "works…", "2"]]
    assert drawn([bars("HEAD", (0, "a"))], "bar_horizontal")[1] == "a  0"


@pytest.mark.parametrize("width", [10, 20, 40, 200])
def test_bars_fit(width: int) -> None:
    many = bars("HEAD", *((number, f"name {number} \x1b[31m 数据") for number in range(100)))
    rows = drawn([many, many], "bar_horizontal", width)
    assert all(width_of(row) <= max(width, 24) for row in rows[1:-1]) and "\x1b" not in "".join(rows)
    assert len(rows) == charts.MOST_BARS + 2 and rows[-1].startswith("140 more bars")


def test_a_matrix_counts() -> None:
    pairs = [("cat", "cat"), ("cat", "dog"), ("dog", "dog")]
    line = Line("HEAD", Series("f"), "actual", "predicted", [Point(*pair) for pair in pairs])
    assert drawn([line], "confusion") == [
        "T (HEAD)",
        "predicted \\ actual  cat  dog",
        "cat                 1    0",
        "dog                 1    1",
    ]
    assert drawn([line], "confusion_normalized")[3] == "dog                 0.50  0.50"
    assert drawn([line], "confusion", 20)[1] == "a matrix of 2 by 2 does not fit into 20 columns: the page shows it"
    assert charts.matrix(count_pairs([], {}), "count", "y \\ x", 80) == ["y \\ x"]


def test_pictures_are_named() -> None:
    face = Face()
    face.paint = Paint(False)
    pictures = (("a.png", Picture("HEAD", "image/png", b"x" * 2048)), ("a.png", Picture("workspace", "image/png", b"x")))
    text = plots._text(face, Drawing(Definition("a.png", (Series("a.png"),)), (), pictures), 80)
    assert text == "a.png\n  HEAD       image: a.png (2.0 KiB)\n  workspace  image: a.png (1 B)\n"


def test_curves() -> None:
    pytest.importorskip("plotext")
    one = Line("HEAD", Series("f", "l"), "step", "l", [Point(0, 1), Point(1, 2)])
    two = one._replace(series=Series("f", "m"), y="m", points=[Point(0, 2), Point(1, 1)])
    for width in (20, 60, 120):
        rows = drawn([one, two], "linear", width)
        assert len(rows) == 20 and all(width_of(row) <= width for row in rows) and "\x1b" not in "".join(rows)
    assert "·· HEAD l" in "".join(rows) and "++ HEAD m" in "".join(rows)
    assert len(drawn([one], "scatter")) == 20
    assert drawn([one._replace(points=[Point("a", "b")])], "simple")[1].strip().startswith("no numbers to draw")
