"""Pictures of the graph: the shapes people have, and that a line is never lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dvcx.core.pipeline.drawing import ascii, dot, mermaid


def picture(edges: str, alone: str = "", *, lines: bool = False) -> str:
    pairs = [(a, b) for a, _, b in (edge.partition(">") for edge in edges.split())]
    nodes = list(dict.fromkeys([*alone.split(), *(name for pair in pairs for name in pair)]))
    return "\n" + ascii(nodes, pairs, lines=lines)


def test_a_chain() -> None:
    assert picture("extract>train") == """
+---------+
| extract |
+----+----+
     |
 +---+---+
 | train |
 +-------+
"""


def test_a_diamond_and_one_alone() -> None:
    assert picture("a>b a>c b>d c>d", "alone") == """
+-------+
| alone |
+-------+

    +---+
    | a |
    +-+-+
      |
  +---+---+
  |       |
+-+-+   +-+-+
| b |   | c |
+-+-+   +-+-+
  |       |
  +---+---+
      |
    +-+-+
    | d |
    +---+
"""


def test_a_line_passes_a_layer() -> None:
    assert picture("a>b b>c a>c", lines=True) == """
   ┌───┐
   │ a │
   └─┬─┘
     │
  ┌──┴──┐
  │     │
┌─┴─┐   │
│ b │   │
└─┬─┘   │
  │     │
  └──┬──┘
     │
   ┌─┴─┐
   │ c │
   └───┘
"""


def test_two_that_need_the_same_two() -> None:
    assert picture("a>c a>d b>c b>d") == """
+---+   +---+
| a |   | b |
+-+-+   +-+-+
  |       |
  +-------+
  |       |
+-+-+   +-+-+
| c |   | d |
+---+   +---+
"""


def test_lines_that_cross_do_not_join() -> None:
    assert picture("x>a x>c y>b z>b z>d", lines=True).count("┼") == 0


def test_nothing_and_strange_names() -> None:
    assert ascii([], []) == ""
    assert ascii(["a\n\x1b[3m"], []) == "+------------+\n| a\\n\\x1b[3m |\n+------------+\n"
    assert ascii(["a", "b"], [("a", "a"), ("a", "nowhere")]).count("+") == 8


def test_mermaid() -> None:
    assert mermaid(["a", 's/dvcx.yaml:"b"'], [("a", 's/dvcx.yaml:"b"')]) == (
        'flowchart TD\n\tnode1["a"]\n\tnode2["s/dvcx.yaml:&quot;b&quot;"]\n\tnode1-->node2\n'
    )


def test_dot() -> None:
    assert dot(["a", 'b"'], [("a", 'b"')]) == 'digraph {\n  node [shape=box];\n  "a";\n  "b\\"";\n  "a" -> "b\\"";\n}\n'


def test_too_large_becomes_a_list() -> None:
    nodes = [f"n{at}" for at in range(300)]
    edges = [(a, b) for at, a in enumerate(nodes) for b in nodes[at + 1 :]]
    found = ascii(nodes, edges).split("\n")
    assert found[:3] == ["n0", "n1 <- n0", "n2 <- n0, n1"]
    circle = ascii(["a", "b"], [("a", "b"), ("b", "a")])
    assert circle == "a <- b\nb <- a\n"


_UP, _DOWN, _LEFT, _RIGHT = 1, 2, 4, 8
_ENDS = dict(zip(" │─┘┐┤└┌├┴┬┼", [0, 3, 12, 5, 6, 7, 9, 10, 11, 13, 14, 15], strict=True))


_number = st.integers(0, 8)


@given(st.tuples(st.just(9), st.sets(st.tuples(_number, _number), max_size=16)))
def test_every_edge_can_be_followed_and_no_other(case: tuple[int, set[tuple[int, int]]]) -> None:
    """Walk the picture like a reader: from the bottom of a box along the lines, never upwards, to the tops of others."""
    count, pairs = case
    nodes = [f"node{at}" for at in range(count)]
    edges = sorted({(nodes[min(a, b)], nodes[max(a, b)]) for a, b in pairs if a != b})
    grid = ascii(nodes, edges, lines=True).split("\n")
    boxes = {}
    for y, row in enumerate(grid):
        for name in nodes:
            at = row.find(name)
            if at >= 0:
                boxes[name] = (row.rindex("│", 0, at), row.index("│", at), y)
    assert set(boxes) == set(nodes)
    tops = {(x, y - 1): name for name, (left, right, y) in boxes.items() for x in range(left, right + 1)}
    followed = set()
    for name, (left, right, y) in boxes.items():
        todo = [(x, y + 2, _UP) for x in range(left, right + 1) if grid[y + 1][x] == "┬"]
        seen = set()
        while todo:
            x, at, came = todo.pop()
            if (x, at, came) in seen:
                continue
            seen.add((x, at, came))
            if came == _UP and (x, at) in tops:
                followed.add((name, tops[x, at]))
                continue
            char = grid[at][x] if at < len(grid) and x < len(grid[at]) else " "
            ends = _ENDS[char]
            if came in (_LEFT, _RIGHT) and char == "│":
                # A crossing: the line goes straight on below the other one.
                ends = _LEFT | _RIGHT
            assert ends & came, (char, x, at)
            for end, dx, dy, back in ((_DOWN, 0, 1, _UP), (_LEFT, -1, 0, _RIGHT), (_RIGHT, 1, 0, _LEFT)):
                if ends & end and end != came:
                    todo.append((x + dx, at + dy, back))
    assert followed == set(edges)
