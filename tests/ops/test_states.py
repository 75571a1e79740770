"""Every state a tracked file and directory can be in, and what every verb makes of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.errors import Conflict, DvcxError, IntegrityError, NotFound
from dvcx.io.store.store import object_name
from dvcx.ops.add import add
from dvcx.ops.checkout import checkout
from dvcx.ops.commit import commit
from dvcx.ops.fetch import fetch
from dvcx.ops.pull import pull
from dvcx.ops.push import push
from dvcx.ops.status import status
from dvcx.project import Project
from tests.ops.trying import again, pointer, seen, wipe_cache, with_remote, write

RECORDED = {"f": "recorded", "d": "/", "d/a": "aaa", "d/b": "bbb", "d/sub": "/", "d/sub/c": "ccc"}


def _clean(project: Project) -> None:
    pass


def _modified(project: Project) -> None:
    write(project, {"f": "modified", "d/a": "modified too"})


def _deleted(project: Project) -> None:
    Path(project.root, "f").unlink()
    shutil.rmtree(Path(project.root, "d"))


def _never_fetched(project: Project) -> None:
    _deleted(project)
    wipe_cache(project)


def _half_fetched(project: Project) -> None:
    """The listing is there, one file of it is not; the workspace has half of it."""
    (lost,) = [path for path in Path(project.cache_dir, "objects").glob("*/*") if path.read_bytes() == b"bbb"]
    lost.unlink()
    Path(project.root, "d/b").unlink()
    Path(project.root, "f").unlink()


def _only_workspace(project: Project) -> None:
    wipe_cache(project)


def _foreign_file(project: Project) -> None:
    write(project, {"d/sub/foreign": "not recorded anywhere"})


def _foreign_in_the_way(project: Project) -> None:
    _deleted(project)
    write(project, {"d": "a file where a directory was", "f/below": "a directory where a file was"})


def _corrupt(project: Project) -> None:
    _deleted(project)
    path = Path(project.cache_dir, object_name(pointer(project, "f.dvcx")["hash"]))
    path.chmod(0o644)
    path.write_bytes(b"rec0rded")


State = Callable[[Project], None]
STATES: list[State] = [
    _clean,
    _modified,
    _deleted,
    _never_fetched,
    _half_fetched,
    _only_workspace,
    _foreign_file,
    _foreign_in_the_way,
    _corrupt,
]

# What each verb does in each state: what it raises, or which states `status` shows afterwards.
ERROR = type[Exception]
EXPECTED: dict[str, dict[State, ERROR | tuple[str, ...]]] = {
    "status": {
        _clean: (),
        _modified: ("modified", "modified"),
        _deleted: ("deleted", "deleted"),
        _never_fetched: ("missing", "missing"),
        _half_fetched: ("modified", "deleted"),
        _only_workspace: (),
        _foreign_file: ("modified",),
        _foreign_in_the_way: ("modified", "modified"),
        _corrupt: ("deleted", "deleted"),
    },
    "checkout": {
        _clean: (),
        _modified: Conflict,
        _deleted: (),
        _never_fetched: NotFound,
        _half_fetched: NotFound,
        _only_workspace: (),
        _foreign_file: Conflict,
        _foreign_in_the_way: Conflict,
        _corrupt: IntegrityError,
    },
    "checkout --force": {
        _clean: (),
        _modified: (),
        _deleted: (),
        _never_fetched: NotFound,
        _half_fetched: NotFound,
        _only_workspace: (),
        _foreign_file: (),
        _foreign_in_the_way: (),
        _corrupt: IntegrityError,
    },
    "add": {
        _clean: (),
        _modified: (),
        _deleted: NotFound,
        _never_fetched: NotFound,
        _half_fetched: NotFound,
        _only_workspace: (),
        _foreign_file: (),
        _foreign_in_the_way: (),
        _corrupt: NotFound,
    },
    "commit": {
        _clean: (),
        _modified: (),
        _deleted: ("deleted", "deleted"),
        _never_fetched: ("missing", "missing"),
        _half_fetched: ("deleted",),
        _only_workspace: (),
        _foreign_file: (),
        _foreign_in_the_way: (),
        _corrupt: ("deleted", "deleted"),
    },
    "push": {
        _clean: (),
        _modified: ("modified", "modified"),
        _deleted: ("deleted", "deleted"),
        _never_fetched: ("missing", "missing"),
        _half_fetched: ("modified", "deleted"),
        _only_workspace: (),
        _foreign_file: ("modified",),
        _foreign_in_the_way: ("modified", "modified"),
        _corrupt: ("deleted", "deleted"),
    },
    "fetch": {
        _clean: (),
        _modified: ("modified", "modified"),
        _deleted: ("deleted", "deleted"),
        _never_fetched: ("deleted", "deleted"),
        _half_fetched: ("modified", "deleted"),
        _only_workspace: (),
        _foreign_file: ("modified",),
        _foreign_in_the_way: ("modified", "modified"),
        _corrupt: ("deleted", "deleted"),
    },
    "pull": {
        _clean: (),
        _modified: Conflict,
        _deleted: (),
        _never_fetched: (),
        _half_fetched: (),
        _only_workspace: (),
        _foreign_file: Conflict,
        _foreign_in_the_way: Conflict,
        _corrupt: (),
    },
    "pull --force": dict.fromkeys(STATES, ()),
}
VERBS: dict[str, Callable[[Project], object]] = {
    "status": status,
    "checkout": checkout,
    "checkout --force": lambda project: checkout(project, force=True),
    "add": lambda project: add(project, ["f", "d"]),
    "commit": commit,
    "push": push,
    "fetch": fetch,
    "pull": pull,
    "pull --force": lambda project: pull(project, force=True),
}


def everything(project: Project) -> dict[str, str]:
    return {**seen(project, "f"), **seen(project, "d")}


@pytest.mark.parametrize("state", STATES, ids=lambda state: state.__name__.strip("_"))
@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_in_every_state(project: Project, tmp_path_factory: pytest.TempPathFactory, verb: str, state: State) -> None:
    write(project, {"f": "recorded", "d/a": "aaa", "d/b": "bbb", "d/sub/c": "ccc"})
    add(project, ["f", "d"])
    project = with_remote(project, tmp_path_factory.mktemp("remote"))
    push(project)
    state(project)
    before, records = everything(project), [pointer(project, name) for name in ("f.dvcx", "d.dvcx")]
    expected = EXPECTED[verb][state]
    if isinstance(expected, tuple):
        VERBS[verb](again(project))
        assert tuple(change.state for change in status(again(project)).data) == expected
    else:
        with pytest.raises(DvcxError) as caught:
            VERBS[verb](again(project))
        assert type(caught.value) is expected and caught.value.hint
        assert everything(project) == before  # a refusal leaves all as it was
    if verb not in ("add", "commit"):
        assert [pointer(project, name) for name in ("f.dvcx", "d.dvcx")] == records
    if verb in ("status", "add", "commit", "push", "fetch"):
        assert everything(project) == before
    elif expected == ():
        assert everything(project) == RECORDED
    # Whatever happened: forced back, it is what was pushed, and nothing temporary is left.
    if verb not in ("add", "commit"):
        pull(again(project), force=True)
        assert everything(project) == RECORDED
    assert not [path for path in Path(project.root).rglob("tmp-*") if ".git/" not in str(path)]
