"""check: `status` as a gate for places that have no data, such as CI; the command line turns it into an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dvcx.events import Emit, ignore
from dvcx.ops.status import Status, answer

if TYPE_CHECKING:
    from dvcx.project import Project


def check(project: Project, targets: Sequence[str] = (), *, remote: str | None = None, emit: Emit = ignore) -> Status:
    """What `status` answers when data that is absent is taken to be as recorded; `clean` False means no.

    With `remote` ("" is the default one) it also means that the remote lacks something. A stage whose result is known, here or
    there, is stale all the same until its lock says so.
    """
    return answer(project, targets, remote=remote, absent_as_recorded=True, emit=emit)
