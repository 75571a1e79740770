"""How params and metrics look, with colours, which only a terminal gets."""

from __future__ import annotations

import pytest

from dvcx.cli import values
from dvcx.cli.face import Face
from dvcx.cli.output import Paint
from dvcx.core.metrics import compare
from dvcx.errors import IntegrityError
from dvcx.ops.revisions import FileValues, Problem, RevisionValues, ValuesCompared, ValuesShown


def lines(*, md: bool = False, csv: bool = False, colours: bool = False) -> list[str]:
    face = Face()
    face.paint = Paint(colours)
    old, new = {"loss": 0.5, "acc": 0.5, "n": 1}, {"loss": 0.25, "acc": 0.25, "n": 2}
    rows = compare("m.json", old, new, {"loss": "lower", "acc": "higher"})
    layout = values.Layout(face, md=md, csv=csv, precision=0, default=3)
    return list(values._compared(face, ValuesCompared("HEAD", "", tuple(rows), ()), layout, True, "metrics"))


def test_better_and_worse_in_colour() -> None:
    green, red, end = "\x1b[32m", "\x1b[31m", "\x1b[0m"
    head, better, worse, neither = lines(colours=True)
    assert head.startswith("\x1b[1mpath")
    assert better == f"{green}m.json  loss  0.5   0.25       -0.25   better{end}"
    assert worse == f"{red}m.json  acc   0.5   0.25       -0.25   worse{end}"
    assert neither == "m.json  n     1     2          +1"


def test_without_a_terminal_there_are_words() -> None:
    assert lines()[1] == "m.json  loss  0.5   0.25       -0.25   better"
    assert lines(csv=True)[1] == "m.json,loss,0.5,0.25,-0.25,better"
    assert lines(md=True)[0].splitlines()[2].split("|")[-2].strip() == "better"


def test_of_all_commits_those_that_changed_something() -> None:
    def at(rev: str, loss: float, commit: str = "") -> RevisionValues:
        return RevisionValues(rev, commit or f"{rev}00", (FileValues("m.json", {"loss": loss}),))

    revisions = (at("", 1, " "), at("main", 1, "e100"), at("e1", 1), at("d1", 1), at("c1", 2), at("b1", 2), at("a1", 1))
    shown = values._changing(ValuesShown(revisions, ()))
    assert [one.rev for one in shown.revisions] == ["", "main", "d1", "b1", "a1"]


def test_what_cannot_be_read_is_told_and_fails_where_there_is_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    problems = tuple(Problem("", f"{number}.json", "broken", f"{number}.json is broken", "mend it") for number in range(12))
    told = Face()
    values.show(told, ValuesShown((RevisionValues("", "", (FileValues("m", {"a": 1}),)),), problems), layout(told), "metrics")
    out, error = capsys.readouterr()
    assert "m     a    1" in out and error.count("is broken") == 10 and "2 more problems like these" in error
    with pytest.raises(IntegrityError, match=r"^1\.json is broken$"):
        values.show(told, ValuesShown((), problems[:2]), layout(told), "metrics")
    out, error = capsys.readouterr()
    assert not out and "0.json is broken" in error and "1.json is broken" not in error
    missing = Problem("", "m.json", "missing", "m.json is not in the workspace", "")
    values.show(told, ValuesShown((), (missing,)), layout(told), "metrics")
    assert capsys.readouterr().out == "there are no metrics\n"


def layout(face: Face) -> values.Layout:
    return values.Layout(face, md=False, csv=False, precision=0)


def test_cells_of_csv() -> None:
    assert values._csv_line(["a,b", 'c"d', " e", "f\ng", "h"]) == '"a,b","c""d"," e","f\ng",h'
