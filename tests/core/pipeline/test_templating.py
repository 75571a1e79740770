"""Templates: what they name, what becomes of a text, and that the shell takes a value as it is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dvcx.core.pipeline.templating import Origin, Problem, Scope, Style, fill, options, parse

VALUES = {"n": 3, "b": True, "none": None, "t": "two words", "m": {"k": {"deep": 1}, "x.y": 2}, "which": "k"}
VALUES["l"] = ["a", {"z": 9}]
SCOPE = Scope(VALUES, {key: Origin("p.yaml", key, True) for key in VALUES}, {"p.yaml": None})


def filled(text: str, *, command: bool = False, whole: bool = False) -> object:
    return fill(SCOPE, text, {}, command=Style() if command else None, whole=whole).value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", ""),
        ("plain $x {}", "plain $x {}"),
        ("${n}", 3),
        ("${b}", True),
        ("${none}", None),
        ("${n}${b}", "3true"),
        ("a ${none} b", "a None b"),
        ("${m.k.deep}", 1),
        ("${ m . k . deep }", 1),
        ("${m[k][deep]}", 1),
        ("${l[0]}", "a"),
        ("${l.1.z}", 9),
        ("${l[-2]}", "a"),
        ("${m.${which}.deep}", 1),
        ("${${which}}", "k"),
        (r"\${n}", "${n}"),
        (r"x\${n} ${n}", "x${n} 3"),
        (r"${n}\${", "3${"),
        ("$${n}", "$3"),
    ],
)
def test_what_becomes_of_a_text(text: str, value: object) -> None:
    values = {**VALUES, "k": "k"}
    scope = Scope(values, {key: Origin() for key in values})
    found = fill(scope, text, {}, command=None, whole=False).value
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "says", "hint"),
    [
        ("${x", "'${x' has no closing '}'", r"\${"),
        ("a ${b ${c}", "'${b ${c}' has no closing '}'", ""),
        ("${}", "'${}' is no template", "${name.key}"),
        ("${.a}", "'${.a}' is no template", ""),
        ("${a.}", "'${a.}' is no template", ""),
        ("${l[0}", "'${l[0}' is no template", ""),
        ("${l[]}", "'${l[]}' is no template", ""),
        ("${l[7]}", "'l[7]' is not defined", "did you mean 'l["),
        ("${l.x}", "'l.x' is not defined", ""),
        ("${wich}", "'wich' is not defined", "did you mean 'which'?"),
        ("${m.k.dep}", "'m.k.dep' is not defined", "did you mean 'm.k.deep'?"),
        ("${qqqqqq}", "'qqqqqq' is not defined", "these files were read: p.yaml"),
        ("${n.x}", "'n' is a single value: there is no 'n.x'", "write ${n}"),
        ("${m}", "'${m}' is a mapping, where one value is needed", "foreach"),
        ("a ${l}", "'${l}' is a list, which cannot be part of a text", "item"),
        ("${x.${l}}", "'${l}' is a list, which cannot be part of a name", ""),
        ("${" * 20 + "a" + "}" * 20, "'${${${", "vars"),
    ],
)
def test_what_is_wrong_with_a_template(text: str, says: str, hint: str) -> None:
    with pytest.raises(Problem) as caught:
        filled(text)
    assert caught.value.message.startswith(says)
    assert hint in caught.value.hint


def test_what_was_used_is_told_by_file() -> None:
    used: dict[str, dict[str, None]] = {}
    fill(SCOPE, "${n} ${m.${which}.deep} ${l[1].z} ${n}", used, command=None, whole=False)
    assert used == {"p.yaml": {"n": None, "which": None, "m.k.deep": None, "l.1.z": None}}


@pytest.mark.parametrize(
    ("style", "text"),
    [
        (Style(), "--on --l 1 'a b' --s 'a b' --d.e 1 --none None"),
        (Style("boolean_optional", "append"), "--on --no-off --l 1 --l 'a b' --s 'a b' --d.e 1 --none None"),
    ],
)
def test_a_mapping_becomes_options(style: Style, text: str) -> None:
    values = {"on": True, "off": False, "l": [1, "a b"], "empty": [], "s": "a b", "d": {"e": 1}, "none": None}
    assert options(values, style) == text


def test_keys_of_options_are_quoted() -> None:
    assert options({"a; rm x": 1}, Style()) == "--'a; rm x' 1"


def test_a_command_that_is_one_template_is_the_command() -> None:
    assert filled("${t}", command=True) == "two words"
    assert filled("run ${t}", command=True) == "run 'two words'"
    assert filled("run ${m}", command=True) == "run --k.deep 1 --x.y 2"


def test_values_that_no_file_says_are_put_as_they_are() -> None:
    scope = Scope({"args": "-a -b"}, {"args": Origin("vars[0]", "args")})
    assert fill(scope, "run ${args}", {}, command=Style(), whole=False).value == "run -a -b"


@given(st.text("${}\\[].ab 0", max_size=30))
def test_any_text_is_filled_or_refused(text: str) -> None:
    scope = Scope({"a": {"b": [0, "x"]}, "b": "a", "0": 1}, {"a": Origin(), "b": Origin(), "0": Origin()})
    try:
        fill(scope, text, {}, command=Style(), whole=True)
        assert parse(text)
    except Problem as problem:
        assert problem.hint
