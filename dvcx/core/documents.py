"""A file people wrote by hand, once read: plain data, and where in the file each key and value stands."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

# Line and column of a key, then of its value, all from 1. An item of a list has the same place twice.
Mark = tuple[int, int, int, int]


class Document(NamedTuple):
    """The `value` of the file `file`: dict, list, str, int, float, bool or None; every key of a dict is text.

    `marks` knows the places by the identity of the container (aliases share one) and then by key or index. It may be
    empty, for a value that came from no file.
    """

    value: Any
    file: str
    marks: Mapping[int, Mapping[Any, Mark]] = MappingProxyType({})

    def where(self, *path: str | int, value: bool = False) -> str:
        """`file:line:column` of the key at `path` (of what the key holds with `value`); the file alone when unknown."""
        node, place = self.value, ""
        for step in path:
            mark = self.marks.get(id(node), {}).get(step)
            if mark is None:
                break
            line, column = mark[2:] if value else mark[:2]
            place = f":{line}:{column}"
            node = node[step]
        return self.file + place
