"""The public Python API of dvcx; names are resolved lazily, so that `import dvcx` costs nothing.

    import dvcx
    project = dvcx.open_project()
    dvcx.add(project, ["data.csv"])
    with dvcx.open("data.csv", rev="v1.0", mode="r") as file: ...

Every operation takes a `Project` and paths relative to its root, and returns a frozen dataclass. What goes wrong is a
`DvcxError` with a message, a hint and an exit code.
"""

__version__ = "0.1.0"

# Not imported from typing: that alone would cost more than everything else here.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from dvcx.core.changes import Change as Change
    from dvcx.core.holding import Holding as Holding
    from dvcx.core.holding import Lacked as Lacked
    from dvcx.core.holding import PathLacking as PathLacking
    from dvcx.core.metrics import Difference as Difference
    from dvcx.core.plots import Changes as Changes
    from dvcx.errors import AnswerIsNo as AnswerIsNo
    from dvcx.errors import Busy as Busy
    from dvcx.errors import Conflict as Conflict
    from dvcx.errors import DiskRefused as DiskRefused
    from dvcx.errors import DvcxError as DvcxError
    from dvcx.errors import IntegrityError as IntegrityError
    from dvcx.errors import NoProject as NoProject
    from dvcx.errors import NotFound as NotFound
    from dvcx.errors import RemoteFailed as RemoteFailed
    from dvcx.errors import StageFailed as StageFailed
    from dvcx.errors import UnsafeInput as UnsafeInput
    from dvcx.errors import UsageError as UsageError
    from dvcx.ops.add import Added as Added
    from dvcx.ops.add import AddedItem as AddedItem
    from dvcx.ops.add import add as add
    from dvcx.ops.causes import Cause as Cause
    from dvcx.ops.check import check as check
    from dvcx.ops.checkout import CheckedOut as CheckedOut
    from dvcx.ops.checkout import PathChange as PathChange
    from dvcx.ops.checkout import checkout as checkout
    from dvcx.ops.collected import Collected as Collected
    from dvcx.ops.collected import CollectedFile as CollectedFile
    from dvcx.ops.commit import Committed as Committed
    from dvcx.ops.commit import commit as commit
    from dvcx.ops.dag import Graph as Graph
    from dvcx.ops.dag import dag as dag
    from dvcx.ops.diff import Diff as Diff
    from dvcx.ops.diff import diff as diff
    from dvcx.ops.drop import Dropped as Dropped
    from dvcx.ops.drop import DroppedItem as DroppedItem
    from dvcx.ops.drop import drop as drop
    from dvcx.ops.exec_action import Executed as Executed
    from dvcx.ops.exec_action import ExecutedOut as ExecutedOut
    from dvcx.ops.exec_action import exec_action as exec_action
    from dvcx.ops.exec_action import make_request as make_request
    from dvcx.ops.fetch import Fetched as Fetched
    from dvcx.ops.fetch import fetch as fetch
    from dvcx.ops.fsck import Checked as Checked
    from dvcx.ops.fsck import Finding as Finding
    from dvcx.ops.fsck import NeededBy as NeededBy
    from dvcx.ops.fsck import fsck as fsck
    from dvcx.ops.gc import gc as gc
    from dvcx.ops.init import Initialized as Initialized
    from dvcx.ops.init import init as init
    from dvcx.ops.list import Listed as Listed
    from dvcx.ops.list import Listing as Listing
    from dvcx.ops.list import list_ as list_
    from dvcx.ops.log import Log as Log
    from dvcx.ops.log import log as log
    from dvcx.ops.metrics import metrics_diff as metrics_diff
    from dvcx.ops.metrics import metrics_show as metrics_show
    from dvcx.ops.move import Moved as Moved
    from dvcx.ops.move import move as move
    from dvcx.ops.open import open as open
    from dvcx.ops.params import params_diff as params_diff
    from dvcx.ops.params import params_show as params_show
    from dvcx.ops.placing import Kept as Kept
    from dvcx.ops.plots import Image as Image
    from dvcx.ops.plots import Plot as Plot
    from dvcx.ops.plots import Plotted as Plotted
    from dvcx.ops.plots import Template as Template
    from dvcx.ops.plots import Templates as Templates
    from dvcx.ops.plots import plots_diff as plots_diff
    from dvcx.ops.plots import plots_show as plots_show
    from dvcx.ops.plots import plots_templates as plots_templates
    from dvcx.ops.pull import Pulled as Pulled
    from dvcx.ops.pull import pull as pull
    from dvcx.ops.push import Pushed as Pushed
    from dvcx.ops.push import push as push
    from dvcx.ops.remove import Removed as Removed
    from dvcx.ops.remove import RemovedItem as RemovedItem
    from dvcx.ops.remove import remove as remove
    from dvcx.ops.repro import Reproduced as Reproduced
    from dvcx.ops.repro import StageRun as StageRun
    from dvcx.ops.repro import repro as repro
    from dvcx.ops.revisions import FileValues as FileValues
    from dvcx.ops.revisions import Problem as Problem
    from dvcx.ops.revisions import RevisionValues as RevisionValues
    from dvcx.ops.revisions import ValuesCompared as ValuesCompared
    from dvcx.ops.revisions import ValuesShown as ValuesShown
    from dvcx.ops.run import Ran as Ran
    from dvcx.ops.run import run as run
    from dvcx.ops.runs import RunInfo as RunInfo
    from dvcx.ops.runs import Runs as Runs
    from dvcx.ops.runs import runs as runs
    from dvcx.ops.show import RunDetails as RunDetails
    from dvcx.ops.show import show as show
    from dvcx.ops.status import DataChange as DataChange
    from dvcx.ops.status import StageStatus as StageStatus
    from dvcx.ops.status import Status as Status
    from dvcx.ops.status import status as status
    from dvcx.ops.unprotect import Unprotected as Unprotected
    from dvcx.ops.unprotect import unprotect as unprotect
    from dvcx.ops.verify import ComparedOut as ComparedOut
    from dvcx.ops.verify import Verified as Verified
    from dvcx.ops.verify import verify as verify
    from dvcx.ops.why import PathAnswer as PathAnswer
    from dvcx.ops.why import StageAnswer as StageAnswer
    from dvcx.ops.why import Why as Why
    from dvcx.ops.why import why as why
    from dvcx.project import Project as Project
    from dvcx.project import open_project as open_project

# Module -> the names that come from it; the same as above.
_NAMES = {
    "core.changes": ("Change",),
    "core.holding": ("Holding", "Lacked", "PathLacking"),
    "core.metrics": ("Difference",),
    "core.plots": ("Changes",),
    "errors": (
        *("AnswerIsNo", "Busy", "Conflict", "DiskRefused", "DvcxError", "IntegrityError", "NoProject", "NotFound"),
        *("RemoteFailed", "StageFailed", "UnsafeInput", "UsageError"),
    ),
    "ops.add": ("Added", "AddedItem", "add"),
    "ops.causes": ("Cause",),
    "ops.check": ("check",),
    "ops.checkout": ("CheckedOut", "PathChange", "checkout"),
    "ops.collected": ("Collected", "CollectedFile"),
    "ops.commit": ("Committed", "commit"),
    "ops.dag": ("Graph", "dag"),
    "ops.diff": ("Diff", "diff"),
    "ops.drop": ("Dropped", "DroppedItem", "drop"),
    "ops.exec_action": ("Executed", "ExecutedOut", "exec_action", "make_request"),
    "ops.fetch": ("Fetched", "fetch"),
    "ops.fsck": ("Checked", "Finding", "NeededBy", "fsck"),
    "ops.gc": ("gc",),
    "ops.init": ("Initialized", "init"),
    "ops.list": ("Listed", "Listing", "list_"),
    "ops.log": ("Log", "log"),
    "ops.metrics": ("metrics_diff", "metrics_show"),
    "ops.move": ("Moved", "move"),
    "ops.open": ("open",),
    "ops.params": ("params_diff", "params_show"),
    "ops.placing": ("Kept",),
    "ops.plots": ("Image", "Plot", "Plotted", "Template", "Templates", "plots_diff", "plots_show", "plots_templates"),
    "ops.pull": ("Pulled", "pull"),
    "ops.push": ("Pushed", "push"),
    "ops.remove": ("Removed", "RemovedItem", "remove"),
    "ops.repro": ("Reproduced", "StageRun", "repro"),
    "ops.revisions": ("FileValues", "Problem", "RevisionValues", "ValuesCompared", "ValuesShown"),
    "ops.run": ("Ran", "run"),
    "ops.runs": ("RunInfo", "Runs", "runs"),
    "ops.show": ("RunDetails", "show"),
    "ops.status": ("DataChange", "StageStatus", "Status", "status"),
    "ops.unprotect": ("Unprotected", "unprotect"),
    "ops.verify": ("ComparedOut", "Verified", "verify"),
    "ops.why": ("PathAnswer", "StageAnswer", "Why", "why"),
    "project": ("Project", "open_project"),
}
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = ["__version__", *_HOME]


def __getattr__(name: str) -> object:
    """A public name, imported when it is first used."""
    module = _HOME.get(name)
    if module is None:
        raise AttributeError(f"module 'dvcx' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(f"dvcx.{module}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names."""
    return sorted(__all__)
