from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dvcx.core import vega
from dvcx.core.plots import Changes
from dvcx.errors import IntegrityError, NotFound, UnsafeInput, UsageError
from dvcx.io import plots as io
from dvcx.ops.plots import Plotted
from dvcx.ops.plots import plots_diff as diff
from dvcx.ops.plots import plots_show as show
from dvcx.ops.plots import plots_templates as templates
from dvcx.ops.repro import repro
from dvcx.project import Project
from tests.ops.test_params import tag
from tests.ops.trying import commit_all, write

PIPELINE = """\
stages:
  draw:
    cmd: mkdir -p out && cp log.in out/log.csv && cp log.in out/a.png && cp log.in out/notes.txt
    deps: [log.in]
    plots:
    - out
plots:
- losses: {x: epoch, y: {log.in.csv: loss, curve.json: l}}
"""


@pytest.fixture
def drawn(project: Project) -> Project:
    """Revision `one`, and HEAD with other numbers; out/ is cached, the rest is in git."""
    write(project, {"dvcx.yaml": PIPELINE, "log.in": "epoch,loss\n1,0.9\n", "log.in.csv": "epoch,loss\n1,0.9\n"})
    write(project, {"curve.json": json.dumps({"auc": 0.5, "rows": [{"epoch": 1, "l": 3}]})})
    repro(project)
    commit_all(project, "one")
    tag(project, "one")
    write(project, {"log.in": "epoch,loss\n1,0.5\n", "log.in.csv": "epoch,loss\n1,0.5\n"})
    repro(project)
    commit_all(project, "two")
    return project


def values(result: Plotted, name: str) -> list[tuple[Any, ...]]:
    [spec] = [plot.spec for plot in result.plots if plot.name == name]
    rows: Any = spec["data"]
    return [(row["rev"], row["series"], row["x"], row["y"]) for row in rows["values"]]


def test_a_page_of_everything(drawn: Project, git: Callable[..., str]) -> None:
    result = show(drawn)
    assert [(plot.name, plot.template, len(plot.images)) for plot in result.plots] == [
        ("losses", "linear", 0),
        ("out/a.png", "", 1),
        ("out/log.csv", "linear", 0),
    ]
    assert result.problems == () and result.page == f"{drawn.root}/.dvcx/plots/index.html"
    text = Path(result.page).read_text()
    assert "vegaEmbed" in text and "data:image/png;base64," in text
    assert not re.search(r'(?:src|href)="(?!data:)', re.sub("<script>.*?</script>", "", text, flags=re.DOTALL))
    assert git("status", "--porcelain") == ""


def test_revisions_lie_over_one_another(drawn: Project, tmp_path: Path) -> None:
    write(drawn, {"log.in.csv": "epoch,loss\n1,0.25\n"})
    result = diff(drawn, ["one"], page=False)
    assert result.revisions == ("workspace", "one") and result.page == ""
    assert values(result, "losses") == [
        ("workspace", "log.in.csv", 1, 0.25),
        ("workspace", "curve.json", 1, 3),
        ("one", "log.in.csv", 1, 0.9),
        ("one", "curve.json", 1, 3),
    ]
    cached = diff(drawn, ["one", "HEAD"], targets=["out"], out=str(tmp_path / "new/p.html"))
    assert values(cached, "out/log.csv") == [("one", "loss", 0, 0.9), ("HEAD", "loss", 0, 0.5)]
    assert [image.rev for image in cached.plots[0].images] == ["one", "HEAD"]
    assert Path(cached.page).stat().st_size > 500_000
    assert diff(drawn, page=False).revisions == ("workspace", "HEAD")


def test_the_nearest_directory_says_how(drawn: Project) -> None:
    plots = "plots:\n- logs: {y: a}\n- logs/deep: {y: b}\n- other: {x: {logs/x.csv: a}, y: {logs/deep/y.csv: b}}\n"
    write(drawn, {"dvcx.yaml": plots, "logs/x.csv": "a,b\n1,2\n", "logs/deep/y.csv": "a,b\n3,4\n"})
    result = show(drawn, page=False)
    found = {plot.name: values(result, plot.name)[0][2:] for plot in result.plots}
    assert found == {"logs/x.csv": (0, 1), "logs/deep/y.csv": (0, 4), "other": (1, 4)}


def test_any_file_can_be_drawn(drawn: Project) -> None:
    write(drawn, {"x.tsv": "a\tb\n1\t2\n", "y.yaml": "- {a: 1, b: 2}\n", "bare.csv": "1,2\n3,4\n"})
    result = show(drawn, ["x.tsv", "y.yaml"], changes=Changes(x="a", template="scatter", title="T"), page=False)
    assert [(plot.name, plot.template, plot.spec["title"]) for plot in result.plots] == [
        ("x.tsv", "scatter", "T"),
        ("y.yaml", "scatter", "T"),
    ]
    assert values(result, "x.tsv") == [("workspace", "b", 1, 2)]
    bare = show(drawn, ["bare.csv"], changes=Changes(header=False), page=False)
    assert values(bare, "bare.csv") == [("workspace", "1", 0, 2), ("workspace", "1", 1, 4)]
    with pytest.raises(NotFound, match="nowhere is no plot"):
        show(drawn, ["nowhere"])


def test_what_cannot_be_drawn_is_named_and_hides_nothing(drawn: Project) -> None:
    write(drawn, {"curve.json": "[{", "bad.csv": "a,b\n1,2,3\n", "none.json": '{"a": 1}', "few.csv": "a\n1\n"})
    result = show(drawn, ["losses", "bad.csv", "none.json"], page=False)
    assert values(result, "losses") == [("workspace", "log.in.csv", 1, 0.5)]
    assert {(problem.path, problem.message.partition(": ")[0]) for problem in result.problems} == {
        ("curve.json", "curve.json:1:3"),
        ("bad.csv", "bad.csv:2"),
        ("none.json", "none.json"),
    }
    [problem] = show(drawn, ["few.csv"], changes=Changes(y=("b",)), page=False).problems
    assert "no field 'b'" in problem.message
    write(drawn, {"empty.csv": "", "empty.json": "[]"})
    for name in ("linear", "confusion"):
        empty = show(drawn, ["empty.csv", "empty.json"], changes=Changes(template=name))
        assert [plot.spec["data"] for plot in empty.plots] == [{"values": []}] * 2 and not empty.problems
    assert [plot.note for plot in show(drawn, ["empty.csv"], page=False).plots] == ["there are no rows to draw"]
    write(drawn, {"code.py": "a = [1, 2]"})
    [problem] = show(drawn, ["code.py"], page=False).problems
    assert "holds no data to draw" in problem.message
    write(drawn, {"new.png": "png"})
    half = diff(drawn, ["one"], targets=["new.png"])
    assert [image.rev for image in half.plots[0].images] == ["workspace"] and "not there" in Path(half.page).read_text()
    gone = diff(drawn, ["one"], targets=["few.csv"], page=False)
    assert [plot.name for plot in gone.plots] == ["few.csv"]
    assert [(problem.rev, problem.kind) for problem in gone.problems] == [("one", "missing")]


def test_own_templates(drawn: Project) -> None:
    own = {"data": {"values": "<DVC_METRIC_DATA>"}, "mark": "bar", "encoding": {"x": {"field": "<DVCX_X>"}}}
    io_place = Path(drawn.root, ".dvcx/plots")
    io_place.mkdir(exist_ok=True)
    (io_place / "mine.json").write_text(json.dumps(own))
    write(drawn, {"x.json": '[{"v": 1, "other": "o"}]', "lib/t.json": json.dumps(own)})
    for name in ("mine", "lib/t.json"):
        [plot] = show(drawn, ["x.json"], changes=Changes(template=name, y=("v",)), page=False).plots
        named = {"filename": "x.json", "field": "v", "series": "v"}
        assert plot.spec["data"] == {"values": [{"v": 1, "other": "o", "x": 0, "y": 1, "rev": "workspace", **named}]}
    listed = {item.name: item.own for item in templates(drawn).items}
    assert listed["mine"] and not listed["linear"] and "confusion_normalized" in listed
    assert templates(drawn, "mine").items[0].spec == own
    write(drawn, {".dvc/plots/dvcs.json": json.dumps({"mark": "line"}), ".dvc/plots/mine.json": "{}"})
    assert templates(drawn, "dvcs").items[0].spec == {"mark": "line"} and templates(drawn, "mine").items[0].spec == own
    assert [item.name for item in templates(drawn).items if item.own] == ["dvcs", "mine"]
    (io_place / "broken.json").write_text("{\n,")
    with pytest.raises(IntegrityError, match=r"broken\.json:2:1: broken JSON"):
        templates(drawn, "broken")
    with pytest.raises(NotFound, match="no template 'nope'"):
        templates(drawn, "nope")
    with pytest.raises(UsageError, match="cannot name a template"):
        templates(drawn, "../mine")
    with pytest.raises(NotFound, match="no template 'nope'"):
        show(drawn, ["x.json"], changes=Changes(template="nope"), page=False)


def test_an_image_is_of_one_plot(drawn: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(drawn, {"dvcx.yaml": PIPELINE + "- log.in.csv\n"})
    for targets, told in (([], "there are 4"), (["out/a.png"], "is a picture already")):
        with pytest.raises(UsageError, match=told):
            show(drawn, targets, out=str(tmp_path / "x.svg"))
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(UsageError, match=r"writing \.png needs the package vl-convert-python") as caught:
        # Two plots read it; one is called so.
        show(drawn, ["log.in.csv"], out=str(tmp_path / "x.png"))
    assert "dvcx[images]" in caught.value.hint


@pytest.mark.nightly
def test_images_are_written_and_load_nothing(drawn: Project, tmp_path: Path) -> None:
    pytest.importorskip("vl_convert")
    out = tmp_path / "x.svg"
    assert show(drawn, ["losses"], out=str(out)).page == str(out)
    assert marks(out.read_text()) == {"line": 2, "symbol": 2}
    show(drawn, ["losses"], out=str(tmp_path / "x.png"))
    assert (tmp_path / "x.png").read_bytes()[:4] == b"\x89PNG"
    (tmp_path / "secret.csv").write_text("a\n1\n2\n")
    encoding = {"x": {"field": "a", "type": "quantitative"}}
    for url in (f"file://{tmp_path}/secret.csv", "http://127.0.0.1:9/x.csv", f"{tmp_path}/secret.csv"):
        write(drawn, {"t.json": json.dumps({"data": {"url": url}, "mark": "point", "encoding": encoding})})
        try:
            show(drawn, ["losses"], changes=Changes(template="t.json"), out=str(out))
        except UsageError as error:
            assert "cannot draw it: Error: External data url not allowed" in error.message
        else:
            assert not marks(out.read_text()), url


def test_a_link_in_the_repository_leads_nowhere(drawn: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    Path(drawn.root, ".dvcx/plots").symlink_to(outside)
    with pytest.raises(UnsafeInput):
        show(drawn)
    assert not list(outside.iterdir())


def test_the_scripts_are_those_that_were_shipped() -> None:
    scripts = io.scripts()
    assert len(scripts) == len(io.SCRIPTS) == 3
    assert not any(word in script.lower() for script in scripts for word in ("</script", "<!--"))
    licences = Path(io.__file__).with_name("js").joinpath("LICENSES.txt").read_text()
    assert "Redistribution and use in source and binary forms" in licences and "Vega 5.33.1" in licences


# What each template draws of one line of points: marks by kind, by the number of points.
MARKS: dict[str, Callable[[int], dict[str, int]]] = {
    "linear": lambda points: {"line": 1, "symbol": points},
    "simple": lambda points: {"line": 1},
    "smooth": lambda points: {"line": 2},
    "scatter": lambda points: {"symbol": points},
    "scatter_jitter": lambda points: {"symbol": points},
    "bar_horizontal": lambda points: {"rect": points},
    "bar_horizontal_sorted": lambda points: {"rect": points},
}


def marks(svg: str) -> dict[str, int]:
    """How many marks of each kind are drawn, axes and legends aside."""
    found: dict[str, int] = {}
    for group in ElementTree.fromstring(svg).iter("{http://www.w3.org/2000/svg}g"):
        kind, *roles = group.get("class", "").split()[:2] or [""]
        if roles == ["role-mark"] and len(group):
            found[kind.removeprefix("mark-")] = found.get(kind.removeprefix("mark-"), 0) + len(group)
    return found


@pytest.mark.nightly
def test_every_template_draws_every_point(drawn: Project) -> None:
    """Vega-Lite itself draws each template, of one and of several revisions and series, and of nothing."""
    vl_convert = pytest.importorskip("vl_convert")
    rows = "".join(f"{step},{step * 2},{step % 3 + 9}\n" for step in range(5))
    write(drawn, {"x.csv": "n,a,b\n" + rows, "empty.csv": "n,a,b\n"})
    commit_all(drawn, "data")
    for name in vega.TEMPLATES:
        for y in (("a",), ("a", "b")):
            changes = Changes(x="n", y=y, template=name)
            for revs in (["workspace"], ["HEAD", "workspace"]):
                [plot] = show(drawn, ["x.csv"], rev=revs, changes=changes, page=False).plots
                lines = len(y) * len(revs)
                if name.startswith("confusion"):
                    names = {float(row["x"]) for row in plot.spec["data"]["values"]}  # type: ignore[index]
                    expected = {"rect": lines * len(names) ** 2, "text": lines * len(names) ** 2}
                else:
                    expected = {kind: count * lines for kind, count in MARKS[name](5).items()}
                assert marks(vl_convert.vegalite_to_svg(plot.spec, "5.21")) == expected, name
        [empty] = show(drawn, ["empty.csv"], changes=Changes(template=name), page=False).plots
        assert not marks(vl_convert.vegalite_to_svg(empty.spec, "5.21")), name


@pytest.mark.nightly
def test_every_form_of_a_plot_draws_every_point(drawn: Project) -> None:
    """As DVC has them: by file, by fields, by fields of files, with x of another file, of a directory, of nested JSON, text."""
    vl_convert = pytest.importorskip("vl_convert")
    forms = "plots:\n- a.csv\n- b.tsv: {x: n, y: [v, w]}\n- logs: {x: n, y: v}\n- j.json: {x: n, y: v, template: scatter}\n"
    forms += "- two: {x: n, y: {a.csv: v, b.tsv: w}}\n- cross: {x: {a.csv: v}, y: {b.tsv: w}, template: scatter}\n- y.yaml\n"
    table = "n,v,w\n1,2,3\n2,3,4\n3,NaN,x\n"
    write(drawn, {"dvcx.yaml": forms, "a.csv": table, "b.tsv": table.replace(",", "\t"), "logs/c.csv": table})
    write(drawn, {"j.json": '{"n": 1, "t": [{"n": 1}, {"n": 2}], "v": [{"v": 1}, {"v": 2}]}', "y.yaml": "- {n: 1, v: low}\n"})
    result = show(drawn, page=False)
    assert not result.problems
    counted = {plot.name: marks(vl_convert.vegalite_to_svg(plot.spec, "5.21")) for plot in result.plots}
    assert counted == {
        "a.csv": {"line": 1, "symbol": 3},
        "b.tsv": {"line": 2, "symbol": 6},
        "logs/c.csv": {"line": 1, "symbol": 2},  # NaN is no point
        "j.json": {"symbol": 2},
        "two": {"line": 2, "symbol": 6},
        "cross": {"symbol": 2},
        "y.yaml": {"line": 1, "symbol": 1},
    }


BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.mark.nightly
def test_a_browser_draws_the_page_without_a_complaint(drawn: Project, tmp_path: Path) -> None:
    """A real browser with the scripts that are shipped: every template, two revisions, pictures, hostile texts, no network."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), "")
    if not browser:
        pytest.skip("no chromium on this machine")
    evil = "</script><img src=x onerror='document.title=1'>"
    plots = "".join(f"- {name}: {{x: n, y: {{x.csv: [a, b]}}, template: {name}}}\n" for name in vega.TEMPLATES)
    plots += f'- evil: {{x: n, y: {{x.csv: a}}, title: "{evil}", x_label: "{evil}"}}\n- p.svg\n'
    picture = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'
    write(drawn, {"dvcx.yaml": "plots:\n" + plots, "x.csv": "n,a,b\n1,2,3\n2,3,4\n", "p.svg": picture})
    commit_all(drawn, "data")
    page = diff(drawn, out=str(tmp_path / "page.html")).page
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--host-resolver-rules=MAP * ~NOTFOUND")
    ran = subprocess.run(
        [browser, *options, f"--user-data-dir={tmp_path}", "--virtual-time-budget=10000", "--dump-dom", f"file://{page}"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ran.returncode == 0, ran.stderr
    assert "CONSOLE" not in ran.stderr, ran.stderr
    assert ran.stdout.count("<canvas") == len(vega.TEMPLATES) + 1
    assert ran.stdout.count('<img src="data:') == 2 and '<img src="x"' not in ran.stdout and "<title>Plots of " in ran.stdout
    assert "cannot be drawn" not in ran.stdout.rpartition('id="specs"')[0]
