from __future__ import annotations

import json
import math
import re
from typing import Any

import pytest

from dvcx.core import plots, vega
from dvcx.core.documents import Document
from dvcx.core.page import Picture, Section, data_block, page
from dvcx.core.pipeline.schema import parse_pipeline
from dvcx.core.plots import Changes, Definition, Line, Point, Series, Table, defined, line, spec, table_of
from dvcx.errors import UsageError

Record = dict[str, Any]


def definitions(document: Record, file: str = "dvcx.yaml") -> list[Definition]:
    return defined({file: parse_pipeline(Document(document, file), file)})


def stage(*outs: Any) -> Record:
    return {"s": {"cmd": "x", "plots": list(outs)}}


def test_plots_at_the_top() -> None:
    found = definitions(
        {
            "plots": [
                "a.csv",
                {"b.json": {"x": "step", "y": ["l", "m"], "template": "simple", "x_label": "X"}},
                {"roc": {"x": "fpr", "y": {"t.csv": "tpr", "v.csv": ["tpr", "low"]}, "title": "ROC"}},
                {"own": {"x": {"t.csv": "p", "v.csv": "q"}, "y": {"t.csv": "r", "v.csv": "s"}}},
            ]
        }
    )
    assert found == [
        Definition("a.csv", (Series("a.csv"),)),
        Definition("b.json", (Series("b.json", "l", "step"), Series("b.json", "m", "step")), "simple", x_label="X"),
        Definition(
            "roc", (Series("t.csv", "tpr", "fpr"), Series("v.csv", "tpr", "fpr"), Series("v.csv", "low", "fpr")), title="ROC"
        ),
        Definition("own", (Series("t.csv", "r", "p"), Series("v.csv", "s", "q"))),
    ]


@pytest.mark.parametrize(
    ("x", "y", "series"),
    [
        ({"b.csv": "e"}, {"a.csv": ["l", "m"]}, [("a.csv", "l", "e", "b.csv"), ("a.csv", "m", "e", "b.csv")]),
        ({"a.csv": "e"}, "l", [("p", "l", "e", "a.csv")]),
        ({"p": "e"}, ["l", "m"], [("p", "l", "e", ""), ("p", "m", "e", "")]),
        ({"b.csv": "f", "a.csv": "e"}, {"a.csv": "l", "b.csv": "m"}, [("a.csv", "l", "e", ""), ("b.csv", "m", "f", "")]),
        ({"c.csv": "e", "d.csv": "f"}, {"a.csv": ["l", "m"]}, [("a.csv", "l", "e", "c.csv"), ("a.csv", "m", "f", "d.csv")]),
    ],
)
def test_x_of_another_file(x: Any, y: Any, series: list[tuple[str, ...]]) -> None:
    [one] = definitions({"plots": [{"p": {"x": x, "y": y}}]})
    assert [tuple(item) for item in one.series] == series
    with pytest.raises(UsageError, match="x names 2 fields, and y 1"):
        definitions({"plots": [{"p": {"x": {"c": "e", "d": "f"}, "y": "l"}}]})


def test_plots_of_stages_and_of_subdirectories() -> None:
    outs = stage("a.csv", {"b.csv": {"x": "e", "header": False}}, {"c.csv": [{"y": "1"}, {"y": "2"}]})
    assert definitions({"stages": outs}) == [
        Definition("a.csv", (Series("a.csv"),)),
        Definition("b.csv", (Series("b.csv", "", "e"),), header=False),
        Definition("c.csv", (Series("c.csv", "1"),)),
        Definition("c.csv (2)", (Series("c.csv", "2"),)),
    ]
    both = definitions({"stages": outs, "plots": [{"both": {"y": {"a.csv": "l"}}}]})
    assert [one.name for one in both] == ["both", "b.csv", "c.csv", "c.csv (2)"]
    below = definitions({"plots": ["a.csv", {"id": {"y": {"../b.csv": "l"}}}]}, "sub/dvcx.yaml")
    assert [(one.name, one.files) for one in below] == [("sub/a.csv", ("sub/a.csv",)), ("sub/dvcx.yaml:id", ("b.csv",))]


def test_the_command_line_comes_first() -> None:
    one = Definition("p", (Series("a", "l", "e"), Series("a", "m", "e"), Series("b", "n", "f")), "simple", "T")
    found = plots.changed(one, Changes(y=("q",), title="mine"))
    assert found.series == (Series("a", "q", "e"), Series("b", "q", "f")) and (found.title, found.template) == ("mine", "simple")
    assert {item.x for item in plots.changed(one, Changes(x="z")).series} == {"z"}
    assert plots.changed(one, Changes()) == one


@pytest.mark.parametrize(
    ("value", "rows"),
    [
        ([{"a": 1}], [{"a": 1}]),
        ({"meta": {"n": 1}, "deep": {"curve": [{"a": 1}]}}, [{"a": 1}]),
        ({"labels": [[1]], "rows": [{"a": 1}]}, [{"a": 1}]),
        ({"t": [{"a": 1}, {"a": 2}], "n": [5], "v": [{"b": 3}]}, [{"a": 1, "b": 3}, {"a": 2}]),
        ([{"a": 1}, {"b": 2}], [{"a": 1}, {"b": 2}]),
        ([0.5, 0.25], [{"value": 0.5}, {"value": 0.25}]),
        ([], []),
        (None, []),
    ],
)
def test_records(value: Any, rows: list[Record]) -> None:
    assert table_of(value, "f").rows == rows


@pytest.mark.parametrize("value", [{"a": 1}, 3, "text", [[1], [2]]])
def test_no_records(value: Any) -> None:
    with pytest.raises(UsageError, match="f: it holds no list of records"):
        table_of(value, "f")


def test_points() -> None:
    table = Table([{"e": "1", "loss": "0.5", "w": "x"}, {"e": "2", "loss": "", "w": "nan"}], True)
    found = line("HEAD", Series("f", "loss", "e"), table, "f")
    assert [(point.x, point.y) for point in found.points] == [(1, 0.5), (2, None)]
    last = line("", Series("f"), table, "f")
    assert (last.x, last.y, [(point.x, point.y) for point in last.points]) == ("step", "w", [(0, "x"), (1, None)])
    strange = Table([{"y": math.inf}, {"y": 1 << 60}, {"y": [1]}, {"y": "7"}])
    assert [point.y for point in line("", Series("f"), strange, "f").points] == [None, float(1 << 60), "[1]", "7"]
    with pytest.raises(UsageError, match="no field 'los'") as caught:
        line("", Series("f", "los"), table, "HEAD:f.csv")
    assert "loss" in caught.value.hint
    assert line("", Series("f", "any"), Table([]), "f").points == []


def test_x_and_y_of_two_tables() -> None:
    ys, xs = Table([{"l": 1}, {"l": 2}]), Table([{"e": "5"}, {"e": "6"}], True)
    found = line("", Series("a", "l", "e", "b"), ys, "a", xs)
    assert [tuple(point) for point in found.points] == [(5, 1), (6, 2)]
    with pytest.raises(UsageError, match="a: 2 rows, and b, which has 'e', 1"):
        line("", Series("a", "l", "e", "b"), ys, "a", Table([{"e": 1}]))
    with pytest.raises(UsageError, match="b: no field 'f'"):
        line("", Series("a", "l", "f", "b"), ys, "a", xs)
    side = table_of({"t": [{"a": 1, "z": 2}], "v": [{"b": 3}]}, "f")
    assert line("", Series("f"), side, "f").y == "z"


def test_rows_are_mappings() -> None:
    rows = plots.Rows(["a", "b"], [["1"], ["2", "3"]])
    assert (len(rows), rows[0], list(rows)[1], list(rows[1:])) == (2, {"a": "1"}, {"a": "2", "b": "3"}, [{"a": "2", "b": "3"}])


def drawn(template: str, lines: list[Line], **more: Any) -> Record:
    one = Definition("p", tuple(dict.fromkeys(item.series for item in lines)), **more)
    found, _ = spec(one, lines, vega.TEMPLATES[template][1], template)
    return found


def some(rev: str, series: Series = Series("f", "l", "e"), count: int = 3) -> Line:  # noqa: B008
    points = [Point(step, step * 0.5) for step in range(count)]
    return Line(rev, series, "e", series.y, points, [{"extra": step} for step in range(count)])


@pytest.mark.parametrize("template", list(vega.TEMPLATES))
def test_every_template_is_filled(template: str) -> None:
    found = drawn(template, [some("HEAD"), some("workspace"), some("workspace", Series("g", "m"))], title="T")
    text = json.dumps(found, allow_nan=False)
    assert "<DVCX" not in text and found["title"] == "T" and found["data"]["values"]


def test_what_colours_mean() -> None:
    one = drawn("simple", [some("workspace")])
    assert one["encoding"]["color"]["field"] == "rev" and "strokeDash" not in one["encoding"]
    fields = drawn("simple", [some("workspace"), some("workspace", Series("f", "m"))])
    assert fields["encoding"]["color"]["field"] == "series" and fields["encoding"]["color"]["scale"]["domain"] == ["l", "m"]
    revisions = drawn("simple", [some("HEAD"), some("workspace"), some("HEAD", Series("g", "m"))])
    assert revisions["encoding"]["color"]["scale"]["domain"] == ["HEAD", "workspace"]
    assert revisions["encoding"]["strokeDash"]["scale"]["domain"] == ["f", "g"]
    assert (revisions["encoding"]["x"]["title"], revisions["encoding"]["y"]["title"]) == ("e", "y")


def test_a_matrix_is_counted_here() -> None:
    pairs = [("a", "a"), ("a", "a"), ("a", "b"), ("b", "b")]
    rows = [Point(x, y) for x, y in pairs]
    found = drawn("confusion", [Line("HEAD", Series("f"), "actual", "predicted", rows)])["data"]["values"]
    assert {(row["x"], row["y"]): (row["count"], row["share"]) for row in found} == {
        ("a", "a"): (2, 1.0),
        ("b", "a"): (0, 0.0),
        ("a", "b"): (1, 0.5),
        ("b", "b"): (1, 0.5),
    }


def test_a_matrix_of_numbers_is_in_their_order() -> None:
    rows = [Point(x, 2) for x in (10, 9, "nan", "b", "a", 2)]
    found = drawn("confusion", [Line("HEAD", Series("f"), "x", "y", rows)])
    assert [row["x"] for row in found["data"]["values"] if row["y"] == "2"] == ["2", "9", "10", "a", "b", "nan"]
    assert found["spec"]["encoding"]["x"]["sort"] is None


def test_what_is_dark_in_a_matrix_is_so_in_all_of_its_panels() -> None:
    lines = [Line(rev, Series("f"), "x", "y", [Point("a", "a")] * count) for rev, count in (("HEAD", 8), ("workspace", 3))]
    rows = drawn("confusion", lines)["data"]["values"]
    assert [(row["rev"], row["count"], row["dark"]) for row in rows] == [("HEAD", 8, True), ("workspace", 3, False)]


def test_too_many_points_are_thinned_and_told() -> None:
    lines = [some("HEAD", count=40_000), some("workspace", count=30_001)]
    found, note = spec(Definition("p", (lines[0].series,)), lines, vega.TEMPLATES["simple"][1], "simple")
    rows = found["data"]["values"]
    assert note == "70,001 points: one in 2 is drawn" and len(rows) <= plots.MAX_POINTS
    assert [row["x"] for row in rows if row["rev"] == "workspace"][-1] == 30_000


def test_templates_of_users() -> None:
    template = {"d": "<DVC_METRIC_DATA>", "t": "of <DVCX_TITLE>!", "l": ["<DVCX_STROKE_DASH>", "<DVC_METRIC_X>"], "<DVCX_X>": 1}
    found, _ = spec(Definition("p", ()), [some("HEAD", count=1)], template, "mine", whole=True)
    row = {"extra": 0, "filename": "f", "field": "l", "x": 0, "y": 0.0, "rev": "HEAD", "series": "l"}
    assert found == {"d": [row], "t": "of p!", "l": ["x"], "<DVCX_X>": 1}
    with pytest.raises(UsageError, match="template mine: unknown anchor '<DVCX_TITEL>'") as caught:
        spec(Definition("p", ()), [], {"a": "<DVCX_TITEL>"}, "mine")
    assert "TITLE" in caught.value.hint
    with pytest.raises(UsageError, match="must be a JSON object"):
        spec(Definition("p", ()), [], ["a"], "mine")


EVIL = "</script><script>alert(1)</script><!-- \"'&\u2028 <img src=x onerror=alert(1)>"


def test_nothing_in_the_data_runs() -> None:
    section = Section(EVIL, {"title": EVIL, "data": {"values": [{EVIL: EVIL}]}}, (), EVIL)
    pictures = Section(EVIL, None, [Picture(EVIL, "image/png", b"\x89PNG")])
    text = page(EVIL, [section, pictures], [EVIL], ["let a = 1;"])
    outside = text.replace("<script>let a = 1;</script>", "")
    assert text.count("<script") == 3 and text.count("</script>") == 3
    assert "<img src=x" not in outside and "<!--" not in outside and "alert(1)<" not in outside
    block = text.partition('id="specs">')[2].partition("</script>")[0]
    assert json.loads(block)["plot-0"]["title"] == EVIL
    assert "default-src 'none'" in text and "unsafe-eval" not in text and "script-src 'sha256-" in text
    assert data_block({"a": "<&>"}) == '{"a":"\\u003c\\u0026\\u003e"}'


def test_hostile_names_of_fields_reach_a_page_as_text() -> None:
    lines = [Line(EVIL, Series(EVIL, EVIL, EVIL), EVIL, EVIL, [Point(EVIL, 1)], [{EVIL: EVIL}])]
    one = Definition(EVIL, (lines[0].series,), title=EVIL, x_label=EVIL, y_label=EVIL)
    for name, (_, template) in vega.TEMPLATES.items():
        filled, _ = spec(one, lines, template, name, whole=True)
        text = page("t", [Section(EVIL, filled)], [], ["let a;"])
        assert (text.count("<script"), text.count("</script>"), text.count("<img"), text.count("<!--")) == (3, 3, 0, 0)


def test_the_page_loads_nothing() -> None:
    text = page("t", [Section("p", {"a": 1}), Section("q", None, [Picture("HEAD", "image/png", b"x")])], [], ["let a;"])
    policy = text.partition('Content-Security-Policy" content="')[2].partition('"')[0]
    assert re.fullmatch(
        r"default-src 'none'; script-src 'sha256-[^']+' 'sha256-[^']+'; style-src 'unsafe-inline'; img-src data: blob:; "
        r"base-uri 'none'; form-action 'none'",
        policy,
    )
    assert not re.search(r"https?:|//", re.sub("<script.*?</script>", "", text, flags=re.DOTALL))
    assert re.findall(r"\b(?:src|href|action|data|srcset|poster)=\"(.{5})", text) == ["data:"] and "@import" not in text


def test_a_picture_that_is_missing_has_its_place() -> None:
    text = page("t", [Section("p", None, [Picture("HEAD", "", b""), Picture("v1", "image/png", b"x")])], [], [])
    assert text.count("<figure>") == 2 and text.count("<img") == 1
    assert '<p class="problem">not there</p><figcaption>HEAD</figcaption>' in text


def test_a_page_without_data_has_no_script() -> None:
    text = page("t", [Section("p", None, [Picture("HEAD", "image/png", b"x")])], [], [])
    assert "<script" not in text and "script-src 'none'" in text and 'src="data:image/png;base64,eA=="' in text
