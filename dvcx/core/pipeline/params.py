"""Parameters: which value a key like `train.lr` names, and how two sets of values differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from dvcx.core.records import canonical


class Missing:
    """The type of `MISSING`, which stands for a value that is not there (null is a value)."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


def pick(values: object, key: str) -> Any:
    """The value `key` names in nested mappings and lists, or `MISSING`.

    Dots separate levels and a number counts into a list (from 0). A key that itself holds dots is found as well; the
    longest key wins.
    """
    if isinstance(values, Mapping):
        if key in values:
            return values[key]
        cut = key.rfind(".")
        while cut > 0:
            if key[:cut] in values:
                found = pick(values[key[:cut]], key[cut + 1 :])
                if found is not MISSING:
                    return found
            cut = key.rfind(".", 0, cut)
    elif isinstance(values, list | tuple):
        head, _, rest = key.partition(".")
        if head.isascii() and head.isdigit() and len(head) < 10 and int(head) < len(values):
            return pick(values[int(head)], rest) if rest else values[int(head)]
    return MISSING


def select(values: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """The values of `keys` by key, those that exist; with no keys all of them, by top-level key."""
    if not keys:
        return dict(values)
    found = {key: pick(values, key) for key in keys}
    return {key: value for key, value in found.items() if value is not MISSING}


def same(a: object, b: object) -> bool:
    """Whether two values are the same parameter. 1, 1.0 and true are three values; .nan is the same as .nan."""
    if a is MISSING or b is MISSING:
        return a is b
    return a is b or (type(a) is str and a == b) or canonical(a) == canonical(b)


def differences(old: object, new: object, key: str = "") -> Iterator[tuple[str, Any, Any]]:
    """(key, old, new) of everything that differs, mapping by mapping, `MISSING` where one side has nothing."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for step in (*new, *(name for name in old if name not in new)):
            inner = f"{key}.{step}" if key else step
            yield from differences(old.get(step, MISSING), new.get(step, MISSING), inner)
    elif not same(old, new):
        yield key, old, new
