"""Quoting for the shell: real shells take every value as it is, at every place; where nobody knows, it is refused."""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvcx.core.pipeline.shell import Unquotable, Value, filled
from dvcx.core.pipeline.templating import Origin, Problem, Scope, Style, fill

SHELLS = sorted({os.path.realpath(shell) for shell in ("/bin/sh", "/bin/dash", "/bin/bash") if os.path.exists(shell)})
HERE = "\a"  # where a value goes in the commands below

# Each prints `x`, the value, `x` and a \1.
PLACES = [
    rf"printf '%s\1' x{HERE}x",
    rf"printf '%s\1' 'x{HERE}x'",
    rf"""printf '%s\1' "x{HERE}x" """,
    rf"""printf '%s\1' "it's x" >&2; printf '%s\1' x{HERE}x # "it's""",
    rf"""printf '%s\1' "x$(printf %s {HERE})x" """,
    rf"""printf '%s\1' "x$(printf %s "$(printf %s '{HERE}')")x" """,
    rf"""printf '%s\1' $(: ')' ")" \) "(" ; : ) "x{HERE}x" """,
    rf"""(printf '%s\1' "x"{HERE}'x')""",
    rf"v={HERE}; printf '%s\1' " + '"x${v}x"',
    rf"echo `echo a` $$ $((1 + 2)) $# ${{HOME}} \\\' >&2; printf '%s\1' x{HERE}x",
    rf"echo a#b'#'\# >&2; printf '%s\1' x{HERE}x",
    "echo a\\\n#b >&2; printf '%s\\1' x" + HERE + "x",
    rf"""case a in b) ;; a) printf '%s\1' x{HERE}x;; esac""",
    rf"cat <<E >&2; printf '%s\1' x{HERE}x" + "\nit's \" ) \\\\\nE",
    "cat <<'E' >&2\n' $(\nE\n" + rf"printf '%s\1' x{HERE}x",
]
DOCUMENTS = [
    f"cat <<E\nx{HERE}x\\1\nE",
    f"cat <<'E'\nx{HERE}x\\1\nE",
    f"if :; then\ncat <<-E ; cat <<\\F\n\tx{HERE}x\\1\n\tE\nF\nfi",
]
REFUSED = [
    f"echo `echo {HERE}`",
    f"echo `a` `{HERE}",
    f"echo $'a{HERE}'",
    f"echo $'a' {HERE}",
    f"echo ${{x:-{HERE}}}",
    f"echo $(({HERE} + 1))",
    f"(( 1 << 2 )); echo {HERE}",
    f"cat <<{HERE}\na\n",
    f"cat <<E\n{HERE}\nE",
    f"cat <<E\n$(echo {HERE})\nE",
    f"cat <<E\n`{HERE}`\nE",
    f'echo "$(case a in a) echo {HERE};; esac)"',
    f"echo ${HERE}",
    f'echo "${HERE}"',
    f"cat <<E\n${HERE}\nE",
    f"cat <<E$x\n{HERE}\nE",
    f"echo $\\\n{HERE}",
    f"cat <\\\n<E\n{HERE}\nE",
    f"echo \0 {HERE}",
    f"cat <<E\na\\\nE\n{HERE}\nE",
]

NASTY = st.text(
    st.one_of(st.sampled_from("'\"\\$`#;&|()<>{}*?![]~ \t\n="), st.characters(codec="utf-8", exclude_characters="\0\1\a")),
    max_size=20,
).filter(bool)


def put(command: str, value: str) -> str:
    parts = command.split(HERE)
    pieces: list[str | Value] = [parts[0]]
    for part in parts[1:]:
        pieces += [Value(value, "v"), part]
    return filled(pieces)


def said(shell: str, command: str, cwd: str | None = None) -> str:
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/nowhere"}
    return subprocess.run(
        [shell, "-c", command], capture_output=True, check=True, env=environment, cwd=cwd, stdin=subprocess.DEVNULL
    ).stdout.decode()


def takes(shell: str, value: str) -> None:
    places = [place for place in PLACES if not (value.endswith("\n") and "$(" in place)]
    line = "\n".join(put(place, value) for place in places)
    assert said(shell, line).split("\1")[:-1] == [f"x{value}x"] * len(places)
    if not set(value) & {"\n", "\r", "\t"}:
        assert said(shell, "\n".join(put(place, value) for place in DOCUMENTS)) == f"x{value}x\\1\n" * 3


@settings(max_examples=30)
@given(NASTY)
def test_a_shell_takes_a_value_as_it_is(value: str) -> None:
    takes(SHELLS[-1], value)


@pytest.mark.parametrize(
    "value", ["a b", "'", '"', "\\", "$HOME", "`id`", "$(id)", "a\nb", "#", "*", "~", "a\\\nb", "é", "!x", "EO"]
)
def test_every_shell_takes_it(value: str) -> None:
    for shell in SHELLS:
        takes(shell, value)


@pytest.mark.nightly
@settings(max_examples=5000)
@given(NASTY)
def test_every_shell_takes_many(value: str) -> None:
    for shell in SHELLS:
        takes(shell, value)


@pytest.mark.parametrize("command", REFUSED)
def test_what_nobody_knows_is_refused(command: str) -> None:
    assert put(command.replace("\0", ""), "plain") == command.replace("\0", "").replace(HERE, "plain")
    with pytest.raises(Unquotable):
        put(command, "two words")


def test_a_line_break_ends_no_comment_and_no_document() -> None:
    assert put(f": # a {HERE}", "it's") == ": # a it's"
    for command in (f": # a {HERE}", *DOCUMENTS):
        with pytest.raises(Unquotable, match="v"):
            put(command, "a\necho b")


def test_options_are_words() -> None:
    assert filled(["run ", Value("--a 'b c'", "m", options=True)]) == "run --a 'b c'"
    assert filled(['run "', Value("--a 1", "m", options=True), '"']) == 'run "--a 1"'
    with pytest.raises(Unquotable):
        filled(['run "', Value("--a 'b c'", "m", options=True), '"'])


def test_a_template_says_what_to_do_instead() -> None:
    scope = Scope({"a": "x y", "q": '"'}, {"a": Origin("params.yaml", "a", True), "q": Origin("vars[0]", "q")})

    def command(text: str) -> object:
        return fill(scope, text, {}, command=Style(), whole=False).value

    assert command("echo ${q}${a}${q} ${a}") == "echo \"x y\" 'x y'"
    with pytest.raises(Problem) as caught:
        command("echo `echo ${a}`")
    assert str(caught.value) == "'${a}' cannot be quoted for the shell: it stands in backquotes: write $(…)"
    assert caught.value.hint == 'give it a name first, on a line before: x=${a}, and write "$x" there'


_TOKENS = [
    *(
        "'",
        '"',
        "$(",
        ")",
        "`",
        "#",
        "\n",
        "\\",
        "$",
        " ",
        "a",
        ";",
        "(",
        "<<E",
        "<<'E'",
        "<<-E",
        "\nE\n",
        "E",
        "case a in a)",
        ";; esac",
        "\t",
    ),
    *("echo ", "cat ", "${", "}", "$((", "))", "$'", "<<<", "&", "|", ": ", "=", "\\\n", HERE, HERE, HERE, HERE),
]
_ATTACKS = [
    "; echo >OWNED;",
    "\necho >OWNED\n",
    "$(echo >OWNED)",
    "`echo >OWNED`",
    "'; echo >OWNED; '",
    '"; echo >OWNED; "',
    "'\necho >OWNED\n'",
    "E\necho >OWNED\n",
    ") ; echo >OWNED",
    "\\';echo >OWNED;#",
    '\\";echo >OWNED;#',
    "$((`echo >OWNED`))",
    " & echo >OWNED & ",
    "| echo >OWNED",
    "}; echo >OWNED; {",
]


def attack(shell: str, seed: int, room: Path) -> bool:
    """Whether a value runs in a random command; one that is no command at all runs nothing either."""
    dice = random.Random(seed)
    command = "".join(dice.choice(_TOKENS) for _ in range(dice.randint(2, 12)))
    value = "".join(dice.choice(_ATTACKS) for _ in range(dice.randint(1, 2)))
    try:
        command = put(command, value)
    except Unquotable:
        return False
    environment = {"PATH": os.environ["PATH"]}
    subprocess.run(
        [shell, "-c", command], cwd=room, env=environment, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
    )
    ran = (room / "OWNED").exists()
    (room / "OWNED").unlink(missing_ok=True)
    return ran


def test_no_value_ever_runs(tmp_path: Path) -> None:
    assert not [seed for seed in range(250) if attack(SHELLS[seed % len(SHELLS)], seed, tmp_path)]


@pytest.mark.nightly
def test_no_value_ever_runs_in_many_commands(tmp_path: Path) -> None:
    assert not [seed for seed in range(1000, 31000) if attack(SHELLS[seed % len(SHELLS)], seed, tmp_path)]
