"""Which results of actions, and requests to run them, a collection takes: those that cannot be used any more."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from dvcx.core.objects import Content, digest_bytes
from dvcx.errors import IntegrityError, NotFound, UnsafeInput
from dvcx.io import pool
from dvcx.io.store.actions import read_action, read_request
from dvcx.io.store.store import Store, action_name
from dvcx.io.store.sweep import File, Inventory


def unusable(
    store: Store,
    there: Inventory,
    stays: Callable[[bytes], bool],
    *,
    before: float,
    jobs: int,
    beat: Callable[[], None] = lambda: None,
) -> list[File]:
    """Files of actions older than `before` (unix seconds): a result when one of its outputs (raw id) does not stay, with its
    request; a request that has no result when one of its inputs does not. Broken ones stay: `dvcx fsck` tells of them.
    `beat` is called as it goes on.
    """
    by_key: dict[str, list[File]] = {}
    for file in there.actions:
        by_key.setdefault(file.name.rpartition("/")[2].partition(".")[0], []).append(file)
    old = [(key, files) for key, files in by_key.items() if all(file.newest <= before for file in files)]

    def check(item: tuple[str, list[File]]) -> list[File]:
        key, files = item
        try:
            if any(file.name == action_name(key) for file in files):
                action = read_action(store.backend, key, store.label)
                contents: Iterable[Content] = action.outs.values() if action is not None else ()
            else:
                asked = read_request(store.backend, key, store.label)
                contents = (*asked.request.deps.values(), *asked.terms.code.values())
        except (IntegrityError, UnsafeInput, NotFound):
            return []
        return files if any(not stays(digest_bytes(content.id)) for content in contents) else []

    workers = 1 if store.local is not None else jobs
    found: list[File] = []
    for files in pool.run(check, old, workers=workers):
        found += files
        beat()
    return found
