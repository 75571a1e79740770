"""Listings of recorded directories, wherever they are: in the cache, else on the remote of what they belong to."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dvcx.core.changes import ReadTree
from dvcx.core.objects import Content, Entry
from dvcx.errors import NotFound, display
from dvcx.events import Emit
from dvcx.io.store.store import Store, wanted
from dvcx.ops import records
from dvcx.ops.looking import stored_trees
from dvcx.ops.records import Tracked

if TYPE_CHECKING:
    from dvcx.project import Project


class Listings:
    """Reads listings for one command; a remote is connected to when one is needed that the cache lacks, and only it is read."""

    def __init__(self, project: Project, tracked: Tracked, cache: Store, emit: Emit, *, remote: str = "") -> None:
        self._project, self._tracked, self._cache, self._emit, self._asked = project, tracked, cache, emit, remote
        self._read_cached = stored_trees(cache)
        self._stores: dict[str, Store] = {}
        self._readers: dict[str, ReadTree] = {}

    def __enter__(self) -> Listings:
        return self

    def __exit__(self, *rest: object) -> None:
        for store in self._stores.values():
            store.close()

    def read(self, path: str, content: Content) -> list[Entry]:
        """The entries of the recorded directory at a path. Raises `NotFound` when its listing is nowhere, `RemoteFailed`."""
        try:
            return self._read_cached(path, content)
        except NotFound:
            if not self._asked and not self._project.config.remotes():
                raise
        name = self._remote(path)
        if self._stores[name].missing([wanted(content)]):
            raise NotFound(
                f"the listing of '{display(path)}' ({content.id}) is neither in the cache nor on {self._stores[name].label}",
                "push it from where it was made, or ask another remote: dvcx fetch --remote NAME",
            )
        return self._readers[name](path, content)

    def _remote(self, path: str) -> str:
        owner = records.owner_of(self._tracked, path)
        own = self._tracked.pointers[owner][1].remote if owner in self._tracked.pointers else ""
        name = self._project.remote_name(self._asked or own)
        if name not in self._stores:
            self._stores[name] = self._project.remote(name, self._emit)
            self._readers[name] = stored_trees(self._stores[name])
        return name
