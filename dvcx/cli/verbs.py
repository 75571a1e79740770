"""The table of verbs: which module holds each, its one line of help, its section. Importing it imports no verb."""

from __future__ import annotations

from typing import NamedTuple


class VerbRow(NamedTuple):
    """One verb of the command line. `module` is below dvcx.cli."""

    name: str
    module: str
    section: str
    help: str


_ROWS = (
    VerbRow("init", "init", "start", "Make this directory a dvcx project."),
    VerbRow("demo", "demo", "start", "Show the whole of dvcx on a small example in a new directory."),
    VerbRow("add", "add", "data", "Track files and directories."),
    VerbRow("status", "status", "data", "Say what changed and which stages are stale, and why."),
    VerbRow("diff", "diff", "data", "Compare tracked data between revisions or with the workspace."),
    VerbRow("commit", "commit", "data", "Record tracked data as it is now."),
    VerbRow("checkout", "checkout", "data", "Put the recorded version of the data into the workspace."),
    VerbRow("list", "list", "data", "List what is tracked, here or at a revision."),
    VerbRow("move", "move", "data", "Rename tracked data together with its pointer."),
    VerbRow("remove", "remove", "data", "Stop tracking data, or remove a stage's record."),
    VerbRow("unprotect", "unprotect", "data", "Make linked files safe to edit."),
    VerbRow("run", "run", "pipeline", "Write a stage and run its command."),
    VerbRow("stage", "stage", "pipeline", "Add and list stages."),
    VerbRow("repro", "repro", "pipeline", "Run the stages that are stale."),
    VerbRow("log", "log", "pipeline", "Print what a stage's command printed."),
    VerbRow("runs", "runs", "pipeline", "List the runs of stages, and how they ended."),
    VerbRow("show", "show", "pipeline", "Show all that is remembered of one run."),
    VerbRow("why", "why", "pipeline", "Say why a stage would run or is fresh, down to its source."),
    VerbRow("exec-action", "exec_action", "pipeline", "Run one action by its key, without a pipeline."),
    VerbRow("verify", "verify", "pipeline", "Run a stage on its declared inputs alone, and compare."),
    VerbRow("dag", "dag", "pipeline", "Draw how stages and data depend on one another."),
    VerbRow("check", "check", "pipeline", "Exit with 1 unless everything is up to date (for CI)."),
    VerbRow("params", "params", "pipeline", "Show and compare parameters."),
    VerbRow("metrics", "metrics", "pipeline", "Show and compare metrics."),
    VerbRow("plots", "plots", "pipeline", "Draw data and pictures, also of several revisions at once."),
    VerbRow("push", "push", "sharing", "Send tracked data to a remote."),
    VerbRow("fetch", "fetch", "sharing", "Bring tracked data from a remote into the cache."),
    VerbRow("pull", "pull", "sharing", "Fetch, then check out."),
    VerbRow("remote", "remote", "sharing", "Add, list, change and remove remotes."),
    VerbRow("fsck", "fsck", "sharing", "Check every byte of the cache or of a remote, and repair it."),
    VerbRow("drop", "drop", "sharing", "Free the disk of data that a remote holds."),
    VerbRow("gc", "gc", "sharing", "Move data that nothing needs any more to the trash."),
    VerbRow("cache", "cache", "settings", "Look at the local cache."),
    VerbRow("config", "config", "settings", "Show and change settings."),
    VerbRow("doctor", "doctor", "settings", "Check the installation, the project and its remotes."),
    VerbRow("completion", "completion", "settings", "Print a completion script for bash, zsh or fish."),
    VerbRow("version", "version", "settings", "Show versions."),
)

VERBS = {row.name: row for row in _ROWS}

ALIASES = {"rm": "remove", "mv": "move", "ls": "list"}

# What users of DVC, or of git, may try, and what there is instead.
ELSEWHERE = {
    "help": "dvcx --help lists the commands, dvcx COMMAND --help explains one",
    "exp": "dvcx has no experiments: use branches of git",
    "queue": "dvcx has no experiments: use branches of git",
    "data": "dvcx status says what changed, dvcx diff compares revisions",
    "du": "dvcx list shows sizes, dvcx cache size that of the cache",
    "destroy": "dvcx unprotect what is linked, then delete .dvcx, dvcx.lock and the pointers (*.dvcx)",
    "import": "copy the data here, then: dvcx add PATH",
    "import-url": "download it, then: dvcx add PATH; or let a stage depend on the URL",
    "get-url": "download it with a tool of that service, then: dvcx add PATH; or let a stage depend on the URL",
    "get": "clone that repository, then: dvcx pull PATH; or use dvcx.open in Python",
    "freeze": "write `frozen: true` below the stage in dvcx.yaml",
    "unfreeze": "take `frozen: true` out of the stage in dvcx.yaml",
    "install": "write the hook yourself: dvcx check --quiet in .git/hooks/pre-push",
    "root": "dvcx doctor shows where the project is",
    "config KEY": "dvcx config get KEY, or dvcx config set KEY VALUE",
}

SECTIONS = {
    "start": "Start",
    "data": "Data",
    "pipeline": "Pipeline",
    "sharing": "Sharing",
    "settings": "Settings and help",
}

EXIT_CODES = {
    0: "ok",
    1: "the answer is no (stale, differs, not in sync)",
    2: "the command cannot be understood",
    3: "no project here",
    4: "integrity: bytes or a record are not what they should be",
    5: "not found",
    6: "the remote failed",
    7: "busy: another dvcx holds the lock",
    8: "the disk said no",
    9: "unsafe input refused",
    10: "a stage failed",
    11: "conflict: two owners, a cycle, unsaved work in the way",
    70: "a bug in dvcx",
    130: "interrupted",
    141: "the reader of the output went away",
    143: "terminated",
}
