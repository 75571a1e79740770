"""What a remote holds of what the records need, as values."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lacked:
    """An object that a remote lacks, a path that needs it, and whether the cache has it, so that a push would send it.

    `listing`: it is that of a directory.
    """

    path: str
    id: str
    cached: bool
    listing: bool = False


@dataclass(frozen=True, slots=True)
class PathLacking:
    """A tracked path of which a remote lacks objects: every object, at each path that needs it."""

    path: str
    objects: tuple[Lacked, ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """What a remote holds: `objects` are needed, it lacks `missing` of them, and `to_fetch` are there and not in the cache.

    Of each so many are `…listings` of directories, the others files.
    """

    remote: str
    objects: int
    missing: int
    to_fetch: int
    to_fetch_bytes: int
    lacking: tuple[PathLacking, ...]
    listings: int = 0
    missing_listings: int = 0
    to_fetch_listings: int = 0
