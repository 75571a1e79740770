"""Wildcards over recorded paths: which paths they name, and which directories can hold such a path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import translate

from dvcx.errors import UsageError, display

ANY = "**"
WILDCARD = "glob:"
"""What stands before a wildcard where a path may stand as well."""


class Globs:
    """Patterns of project paths: `*`, `?` and `[...]` stay within one name, `**` as a whole component spans any number of them.

    A directory that is named takes everything below it along. Names that begin with a dot are names like any other.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self.patterns = tuple(patterns)
        self._parts = [[_component(part, pattern) for part in pattern.split("/")] for pattern in self.patterns]
        self._known: dict[str, frozenset[tuple[int, int]]] = {"": self._spread({(at, 0) for at in range(len(self._parts))})}

    def __str__(self) -> str:
        return ", ".join(display(pattern) for pattern in self.patterns)

    def names(self, path: str) -> bool:
        """Whether a pattern names the path or a directory around it."""
        return any(self._ends(self._reached(part)) for part in _upwards(path))

    def leads(self, path: str) -> bool:
        """Whether something below the directory `path` can be named."""
        return bool(self._reached(path))

    def _reached(self, path: str) -> frozenset[tuple[int, int]]:
        """How far each pattern is matched by the components of a path: (pattern, components of it)."""
        found = self._known.get(path)
        if found is not None:
            return found
        above, _, name = path.rpartition("/")
        reached = self._step(self._reached(above), name)
        if len(self._known) < 1 << 16:
            self._known[path] = reached
        return reached

    def _step(self, reached: frozenset[tuple[int, int]], name: str) -> frozenset[tuple[int, int]]:
        moved: set[tuple[int, int]] = set()
        for at, done in reached:
            if done == len(self._parts[at]):
                continue
            part = self._parts[at][done]
            if part is None:
                moved.add((at, done))
            elif part.match(name):
                moved.add((at, done + 1))
        return self._spread(moved)

    def _spread(self, reached: set[tuple[int, int]]) -> frozenset[tuple[int, int]]:
        """`**` stands for no component, too."""
        todo = list(reached)
        while todo:
            at, done = todo.pop()
            if done < len(self._parts[at]) and self._parts[at][done] is None and (at, done + 1) not in reached:
                reached.add((at, done + 1))
                todo.append((at, done + 1))
        return frozenset(reached)

    def _ends(self, reached: frozenset[tuple[int, int]]) -> bool:
        return any(done == len(self._parts[at]) for at, done in reached)


def fixed_part(pattern: str) -> str:
    """The directory a wildcard begins in: its components before the first one that holds a `*`, `?` or `[`."""
    parts = pattern.split("/")
    count = next((at for at, part in enumerate(parts) if set(part) & set("*?[")), len(parts) - 1)
    return "/".join(parts[:count])


def _component(part: str, pattern: str) -> re.Pattern[str] | None:
    """One component as an expression, None for `**`."""
    if part in ("", ".", ".."):
        raise UsageError(
            f"'{display(pattern)}': a pattern is a relative path without '.', '..' and empty components",
            "quote it, and write it like a path: 'data/**/*.png'",
        )
    return None if part == ANY else re.compile(translate(part))


def _upwards(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1)]
