"""Quoting for the shell: what a value becomes at a place in a command, or why it cannot stand there. POSIX sh, and bash alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

SAFE = re.compile(r"[\w@%+=:,./-]*", re.ASCII).fullmatch
"""What the shell takes as it is at any place; also nothing at all."""

# Places in a command. Every other text says why a value cannot stand there.
PLAIN, SINGLE, DOUBLE, COMMENT, DOCUMENT, VERBATIM = "", "'", '"', "#", "<<", "<<'"
_PLACES = (PLAIN, SINGLE, DOUBLE, COMMENT, DOCUMENT, VERBATIM)
_HOLE = "\0"

_BACKQUOTES = re.compile(r"`[^`\\\0]*`")
_VARIABLE = re.compile(r"\$\{[\w@#?*!$-]+\}")
_SUM = re.compile(r"\$\(\([^()\0'\"`$#]*\)\)")
_DOCUMENT = re.compile(r"<<(-?)[ \t]*(?:'([^'\n\0]+)'|\"([^\"\n\0\\$`]+)\"|\\([\w.+-]+)|([\w.+-]+))(?=[\s;&|<>()]|$)")
_CASE = re.compile(r"case(?=\s)")
_BREAKS = " \t\n;&|()<>"


class Value(NamedTuple):
    """A text that a file says, to be taken as it is; `name` is what the template calls it.

    `options` are several words of a command, quoted already.
    """

    text: str
    name: str
    options: bool = False


class Unquotable(Exception):
    """A value cannot stand where a template puts it: its name, and where that is."""

    def __init__(self, name: str, place: str) -> None:
        super().__init__(name)
        self.name, self.place = name, place


def filled(pieces: Sequence[str | Value]) -> str:
    """A command of texts that stand as they are and values, each quoted as its place needs it. Raises `Unquotable`."""
    parts = [piece.text if isinstance(piece, Value) and _stands(piece) else piece for piece in pieces]
    holes = [part for part in parts if isinstance(part, Value)]
    if not holes:
        return "".join(map(str, parts))
    if any(_HOLE in (part.text if isinstance(part, Value) else part) for part in parts):
        raise Unquotable(holes[0].name, "a command that holds a NUL")
    places = iter(_Reader("".join(_HOLE if isinstance(part, Value) else part for part in parts)).places())
    return "".join(_put(part, next(places)) if isinstance(part, Value) else part for part in parts)


def quoted(text: str) -> str:
    """`text` as one word of a command."""
    return text if SAFE(text) else "'" + text.replace("'", "'\"'\"'") + "'"


def _stands(value: Value) -> bool:
    """Whether a value is the same at every place."""
    return bool(SAFE(value.text.replace(" ", "") if value.options else value.text))


def _put(value: Value, place: str) -> str:
    text = value.text
    if value.options:
        if place != PLAIN:
            raise Unquotable(value.name, _WORDS.get(place, place))
        return text
    if place == PLAIN:
        return quoted(text)
    if place == SINGLE:
        return text.replace("'", "'\"'\"'")
    if place == DOUBLE:
        return re.sub(r'[\\"$`]', r"\\\g<0>", text)
    if place not in _PLACES:
        raise Unquotable(value.name, place)
    if "\n" in text or "\r" in text or (place != COMMENT and "\t" in text):
        raise Unquotable(value.name, f"{_WORDS[place]}, with a line break or a tab in its value")
    return re.sub(r"[\\$`]", r"\\\g<0>", text) if place == DOCUMENT else text


_WORDS = {
    SINGLE: "quotes",
    DOUBLE: "quotes",
    COMMENT: "a comment",
    DOCUMENT: "a here-document",
    VERBATIM: "a here-document",
}


class _Reader:
    """Reads a command once, noting the place of each hole. What it does not know for sure it calls so, from there on."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._found: list[str] = []
        # What is open: quotes, `(` for a command inside another, `#` for a comment; nothing at the top.
        self._open: list[str] = []
        self._documents: list[tuple[bool, str, bool]] = []
        # Whether a word would begin here: only there `#` begins a comment.
        self._fresh = True
        self._lost = ""

    def places(self) -> list[str]:
        """The place of each hole."""
        at = 0
        while at < len(self._text):
            at = self._lose(at) if self._lost else self._step(at)
        return self._found

    def _step(self, at: int) -> int:
        """Read on from `at`; where the rest begins."""
        char, top = self._text[at], self._open[-1] if self._open else PLAIN
        if char == _HOLE:
            self._fresh = False
            alone = self._text[at - 1 : at] == "$" and top in (PLAIN, "(", DOUBLE)
            self._found.append("a name behind '$'" if alone else PLAIN if top == "(" else top)
            return at + 1
        if top == SINGLE:
            return self._ends(at, "'")
        if top == COMMENT:
            if char == "\n":
                self._open.pop()
                return at
            return at + 1
        if char == "\\":
            return self._backslash(at, top)
        if char in "$`":
            self._fresh = False
            return self._dollar(at, char, top)
        if top == DOUBLE:
            return self._ends(at, '"')
        after = self._plain(at, char)
        self._fresh = char in _BREAKS
        return after

    def _ends(self, at: int, quote: str) -> int:
        if self._text[at] == quote:
            self._open.pop()
        return at + 1

    def _lose(self, at: int) -> int:
        if self._text[at] == _HOLE:
            self._found.append(self._lost)
        return at + 1

    def _backslash(self, at: int, top: str) -> int:
        following = self._text[at + 1 : at + 2]
        if following == _HOLE:
            self._lost = "or behind a name that follows a backslash"
            return at + 1
        if following != "\n":
            self._fresh = False
        elif self._text[at - 1 : at] in ("$", "<", "(") or (top == "(" and DOUBLE in self._open):
            # The shell reads on as if there were no line break.
            self._lost = "or behind a line break in the middle of something"
        return at + 2

    def _dollar(self, at: int, char: str, top: str) -> int:
        """Behind `$` or at a backquote, in plain text or in double quotes."""
        rest = self._text[at : at + 3]
        if char == "`":
            return self._whole(at, _BACKQUOTES, "backquotes: write $(…)")
        if rest.startswith("${"):
            return self._whole(at, _VARIABLE, "or behind a ${…} of the shell")
        if rest.startswith("$(("):
            return self._whole(at, _SUM, "or behind a $((…)) of the shell")
        if rest.startswith("$("):
            self._open.append("(")
            self._fresh = True
            return at + 2
        if rest.startswith("$'") and top != DOUBLE:
            self._lost = "or behind a $'…', which not every shell reads alike"
        # `$$`, `$#` and the like are names.
        return at + 2 if rest[1:2] in ("$", "#", "?", "!", "@", "*", "-") else at + 1

    def _whole(self, at: int, pattern: re.Pattern[str], otherwise: str) -> int:
        """Behind something that is simple enough to be passed over; from anything else on all is lost."""
        found = pattern.match(self._text, at)
        if found is None:
            self._lost = otherwise
            return at
        return found.end()

    def _plain(self, at: int, char: str) -> int:
        if char in "'\"":
            self._open.append(char)
        elif char == "#" and self._fresh:
            self._open.append(COMMENT)
        elif char == "(":
            if self._text[at + 1 : at + 2] == "(":
                self._lost = "or behind ((…)), which not every shell reads alike"
            self._open.append("(")
        elif char == ")" and self._open:
            self._open.pop()
        elif char == "<" and self._text.startswith("<<", at):
            return self._document(at)
        elif char == "\n" and self._documents:
            return self._bodies(at + 1)
        elif char == "c" and self._fresh and DOUBLE in self._open and _CASE.match(self._text, at):
            self._lost = "or behind a case of the shell in quotes"
        return at + 1

    def _document(self, at: int) -> int:
        if self._text.startswith("<<<", at):
            return at + 3
        found = _DOCUMENT.match(self._text, at)
        if found is None:
            self._lost = "or behind a here-document with an unusual end"
            return at
        tabs, *ends = found.groups()
        self._documents.append((bool(tabs), next(end for end in ends if end), not ends[-1]))
        return found.end()

    def _bodies(self, at: int) -> int:
        """Behind the here-documents that begin at `at`."""
        for tabs, end, verbatim in self._documents:
            at = self._body(at, tabs, end, verbatim)
        self._documents = []
        return at

    def _body(self, at: int, tabs: bool, end: str, verbatim: bool) -> int:
        begin = at
        while at < len(self._text):
            line = self._text[at:].partition("\n")[0]
            bare = line.lstrip("\t") if tabs else line
            after = at + len(line) + 1
            if bare == end:
                # What follows the end is a new line of commands: its line break is read again.
                return after - 1 if after - 1 < len(self._text) else after
            might_end = re.fullmatch(".*".join(map(re.escape, bare.split(_HOLE))), end) is not None
            for hole in re.finditer(_HOLE, line):
                before = self._text[begin : at + hole.start()]
                runs = not verbatim and re.search(r"`|\$[({]|\\\n|[$\\]$", before) is not None
                unsure = "a line that could end its here-document" if might_end else "a here-document that runs commands"
                self._found.append(unsure if might_end or runs else VERBATIM if verbatim else DOCUMENT)
            at = after
            if not verbatim and (len(line) - len(line.rstrip("\\"))) % 2:
                # The next line is part of this one, even if it looks like the end.
                self._lost = "or behind a here-document with a line that goes on in the next"
                return at
        return at
