"""check: `status` as a gate: the same answer, which the command line turns into an exit code."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dvcx.events import Emit, ignore
from dvcx.ops.status import Status, status

if TYPE_CHECKING:
    from dvcx.project import Project


def check(project: Project, targets: Sequence[str] = (), *, emit: Emit = ignore) -> Status:
    """What `status` answers; `clean` False means no."""
    return status(project, targets, emit=emit)
