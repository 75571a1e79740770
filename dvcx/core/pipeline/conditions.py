"""The conditions of `when:`, a small language over parameters with its own tokenizer. Text and values in, true or false out."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from dvcx.core.pipeline.params import MISSING, pick, same
from dvcx.core.spelling import did_you_mean
from dvcx.errors import UsageError, display

MAX_LENGTH = 2000
MAX_DEPTH = 50

# A text in quotes, a number, a comparison or bracket, or a word: a key like `train.lr` or `other.yaml:train.lr`.
_TOKEN = re.compile(
    r"""\s*(?:(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
    |(?P<number>[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?![\w.]))
    |(?P<sign>==|!=|<=|>=|<|>|\(|\)|\[|\]|,)
    |(?P<word>[^\W\d][\w./@-]*(?::[\w.@-]+)?))""",
    re.VERBOSE,
)
_CONSTANTS = {"true": True, "false": False, "null": None, "none": None}
_SIGNS = ("==", "!=", "<", "<=", ">", ">=", "in", "not in")
_HINT = "for example: when: model.kind == 'forest' and train.epochs > 10"


class Key(NamedTuple):
    """A parameter: `file` is "" for the stage's params.yaml, else as it was written."""

    file: str
    name: str


class Condition(NamedTuple):
    """A condition: `sign` is a comparison of two operands, `is` (one operand that is true or false), `not`, `and` or `or`."""

    sign: str
    parts: tuple[Any, ...]
    at: int = 0


class Value(NamedTuple):
    """A value that was written out."""

    value: Any


def parse_condition(text: str, where: str) -> Condition:
    """The condition written in `text`. Raises `UsageError` naming `where` and the character for anything else."""
    if len(text) > MAX_LENGTH:
        raise UsageError(
            f"{where}: the condition is longer than {MAX_LENGTH:,} characters", "compute the choice into one parameter"
        )
    reader = _Reader(text, where)
    found = reader.either(0)
    if reader.word:
        raise reader.wrong(f"'{display(reader.word)}' is not expected here")
    return found


def files_of(test: Condition) -> tuple[str, ...]:
    """The files whose parameters a condition reads, each once; "" is the stage's params.yaml."""
    found: dict[str, None] = {}
    todo: list[Any] = [test]
    while todo:
        part = todo.pop(0)
        if isinstance(part, Key):
            found[part.file] = None
        elif isinstance(part, Condition):
            todo += part.parts
    return tuple(found)


def holds(test: Condition, values: Callable[[str], Mapping[str, Any]], where: str) -> bool:
    """Whether a condition is true; `values` are the parameters of a file (see `Key`).

    Raises `UsageError` naming `where` for a parameter that does not exist, and for values that have no order.
    """
    if test.sign in ("and", "or"):
        # Both are looked at: a mistake on the far side must not wait until the near side changes.
        answers = [holds(part, values, where) for part in test.parts]
        return all(answers) if test.sign == "and" else any(answers)
    if test.sign == "not":
        return not holds(test.parts[0], values, where)
    operands = [_operand(part, values, where) for part in test.parts]
    if test.sign == "is":
        if not isinstance(operands[0], bool):
            name = _name(test.parts[0])
            raise UsageError(
                f"{where}: {name} is neither true nor false: {_shown(operands[0])}",
                f"compare it: {name} == {_shown(operands[0])}",
            )
        return operands[0]
    return _compare(test.sign, operands[0], operands[1], where)


def _operand(part: Any, values: Callable[[str], Mapping[str, Any]], where: str) -> Any:
    if isinstance(part, Value):
        return part.value
    known = values(part.file)
    found = pick(known, part.name)
    if found is MISSING:
        hint = did_you_mean(part.name, _keys(known)) or f"a text is written in quotes: '{display(part.name)}'"
        raise UsageError(f"{where}: there is no parameter {_name(part)}", hint)
    return found


def _compare(sign: str, left: Any, right: Any, where: str) -> bool:
    if sign in ("==", "!="):
        return _equal(left, right) == (sign == "==")
    if sign in ("in", "not in"):
        if isinstance(right, str) and isinstance(left, str):
            found = left in right
        elif isinstance(right, Mapping):
            found = isinstance(left, str) and left in right
        elif isinstance(right, list | tuple):
            found = any(_equal(left, item) for item in right)
        else:
            raise UsageError(f"{where}: nothing can be in {_shown(right)}", "'in' takes a list, a mapping or a text on its right")
        return found == (sign == "in")
    numbers = _is_number(left) and _is_number(right)
    if not numbers and not (isinstance(left, str) and isinstance(right, str)):
        raise UsageError(
            f"{where}: {_shown(left)} and {_shown(right)} have no order", "compare two numbers or two texts; == takes anything"
        )
    return bool({"<": left < right, "<=": left <= right, ">": left > right, ">=": left >= right}[sign])


def _equal(left: Any, right: Any) -> bool:
    # Somebody who asks for 1 means 1.0 as well; true is no number.
    return bool(left == right) if _is_number(left) and _is_number(right) else same(left, right)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _keys(values: object, prefix: str = "") -> list[str]:
    found: list[str] = []
    if isinstance(values, Mapping):
        for key, value in values.items():
            found.append(f"{prefix}{key}")
            if len(found) < 1000:
                found += _keys(value, f"{prefix}{key}.")
    return found


def _name(part: Any) -> str:
    if isinstance(part, Key):
        return display(f"{part.file}:{part.name}" if part.file else part.name)
    return _shown(part.value)


def _shown(value: object) -> str:
    constants = {True: "true", False: "false"}
    text = constants[value] if isinstance(value, bool) else "null" if value is None else repr(value)
    return display(text if len(text) <= 60 else text[:59] + "…")


class _Reader:
    """Tokens of a condition, one ahead; `either`, `both`, `one` and `operand` are the levels of its grammar."""

    def __init__(self, text: str, where: str) -> None:
        self._text, self._where = text, where
        self._next = 0
        self.at = 0
        self.kind = self.word = ""
        self._step()

    def wrong(self, what: str, hint: str = _HINT) -> UsageError:
        """The error for what stands at the present token."""
        return UsageError(f"{self._where}: in '{display(self._text[:120])}', character {self.at + 1}: {what}", hint)

    def either(self, depth: int) -> Condition:
        """Conditions joined by `or`."""
        if depth > MAX_DEPTH:
            raise self.wrong(f"brackets nest more than {MAX_DEPTH} deep")
        return self._joined("or", lambda: self._joined("and", lambda: self._one(depth)))

    def _joined(self, word: str, part: Callable[[], Condition]) -> Condition:
        at = self.at
        parts = [part()]
        while self.kind == "word" and self.word == word:
            self._step()
            parts.append(part())
        return parts[0] if len(parts) == 1 else Condition(word, tuple(parts), at)

    def _one(self, depth: int) -> Condition:
        at = self.at
        if self.kind == "word" and self.word == "not":
            if depth > MAX_DEPTH:
                raise self.wrong(f"'not' nests more than {MAX_DEPTH} deep")
            self._step()
            return Condition("not", (self._one(depth + 1),), at)
        if self.word == "(":
            self._step()
            found = self.either(depth + 1)
            self._take(")")
            return found
        left = self._operand(depth)
        sign = self._sign()
        if not sign:
            return Condition("is", (left,), at)
        return Condition(sign, (left, self._operand(depth)), at)

    def _sign(self) -> str:
        if self.kind == "word" and self.word == "not":
            self._step()
            if self.word != "in":
                raise self.wrong("'not' between two values must be 'not in'")
            self._step()
            return "not in"
        if self.word in _SIGNS and self.kind in ("sign", "word"):
            sign = self.word
            self._step()
            return sign
        return ""

    def _operand(self, depth: int) -> Key | Value:
        kind, word = self.kind, self.word
        if word == "[" and kind == "sign":
            return self._list(depth)
        if not kind:
            raise self.wrong("a parameter or a value is missing")
        if kind == "sign" or word in ("and", "or", "not", "in"):
            raise self.wrong(f"'{display(word)}' stands where a parameter or a value belongs")
        self._step()
        if kind == "text":
            return Value(re.sub(r"\\(.)", r"\1", word[1:-1]))
        if kind == "number":
            return Value(float(word) if set(word) & set(".eE") else int(word))
        if word.lower() in _CONSTANTS:
            return Value(_CONSTANTS[word.lower()])
        file, colon, name = word.rpartition(":")
        return Key(file if colon else "", name)

    def _list(self, depth: int) -> Value:
        if depth > MAX_DEPTH:
            raise self.wrong(f"lists nest more than {MAX_DEPTH} deep")
        self._take("[")
        items: list[Any] = []
        while self.word != "]" or self.kind != "sign":
            item = self._operand(depth + 1)
            if isinstance(item, Key):
                raise self.wrong(
                    f"a list holds values, not parameters: {_name(item)}", f"a text is written in quotes: '{item.name}'"
                )
            items.append(item.value)
            if self.word != "]":
                self._take(",")
        self._take("]")
        return Value(items)

    def _take(self, sign: str) -> None:
        if self.word != sign or self.kind != "sign":
            raise self.wrong(f"'{sign}' is missing")
        self._step()

    def _step(self) -> None:
        """The next token."""
        rest = len(self._text) - len(self._text[self._next :].lstrip())
        self.at = rest
        if rest == len(self._text):
            self.kind = self.word = ""
            return
        found = _TOKEN.match(self._text, self._next)
        if found is None:
            near = self._text[rest : rest + 10].split()[0]
            hint = "compare with ==" if near.startswith("=") else "write 'and', 'or', 'not'" if near[0] in "&|!" else _HINT
            raise self.wrong(f"'{display(near)}' is not understood", hint)
        self.kind = str(found.lastgroup)
        self.word = found.group(self.kind)
        self._next = found.end()
