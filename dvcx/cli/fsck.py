"""dvcx fsck: check every byte of the cache or of a remote, and repair it."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

from typer import Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import AskingRemote, app
from dvcx.cli.options import Jobs, NoWait, Whole
from dvcx.errors import UsageError, display

if TYPE_CHECKING:
    from dvcx.ops.fsck import Checked, Finding

app = app()

SHOWN = 50
CODES = {"sound": 0, "repaired": 0, "damaged": 4, "lacking": 5}


@app.command("fsck", cls=AskingRemote)
def fsck(
    ctx: Context,
    remote: Annotated[
        str | None,
        Option(
            "--remote",
            "-r",
            metavar="[NAME]",
            help="Check a remote instead of the cache; the default remote without a name.",
            show_default=False,
        ),
    ] = None,
    quick: Annotated[bool, Option("--quick", help="Read no objects: sizes, indexes and tables of packs only.")] = False,
    sample: Annotated[
        str, Option("--sample", metavar="SHARE", help="Read this share of the objects, such as 5%.", show_default=False)
    ] = "",
    seed: Annotated[
        int, Option("--seed", click_type=Whole(-1), metavar="N", help="Choose that sample again.", show_default=False)
    ] = -1,
    repair: Annotated[bool, Option("--repair", help="Get good copies; what is bad goes to quarantine.")] = False,
    jobs: Jobs = 0,
    no_wait: NoWait = False,
) -> int:
    """Read the cache, or a remote, back to the last byte, and say what is not right and which paths and revisions need it.

    Objects, packs, indexes and trees are checked against their ids and seals, and records against what is there. --repair
    looks for good copies on every remote, in the cache and in the workspace; damaged files are moved to the store's
    quarantine and never deleted.

    It exits with 0 when all is right, also after repairing all of it; with 4 when something is damaged and still is; with
    5 when nothing is damaged but a record needs an object that is nowhere (of a remote: not there).

    Examples:
      dvcx fsck
      dvcx fsck --repair
      dvcx fsck --remote
      dvcx fsck --remote origin --sample 5%

    Exits: 3 4 5 6 7 8 9
    """
    from dvcx.ops.fsck import fsck as op

    face: Face = ctx.obj
    project = face.project(jobs=jobs, no_wait=no_wait)
    result = op(project, remote=remote, quick=quick, sample=_share(sample), seed=seed, repair=repair, jobs=jobs, emit=face.emit)
    code = CODES[result.verdict]
    name = project.remote_name(remote) if remote is not None else ""
    if code:
        face.answer(result, lambda: fsck_lines(face, result, name))
    else:
        face.done(result, lambda: fsck_lines(face, result, name))
    return code


def _share(text: str) -> float:
    """A share as a number from 0 to 1: "5%" and "0.05" are the same."""
    if not text:
        return 0.0
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UsageError(f"--sample is a share of the objects, not '{display(text)}'", "dvcx fsck --sample 5%")
    return share


def fsck_lines(face: Face, result: Checked, remote: str) -> Iterable[str]:
    """Every finding with who needs it, then what was read and the verdict."""
    shown = result.findings if face.verbose else result.findings[:SHOWN]
    for finding in shown:
        yield from _finding_lines(face, finding)
    if len(shown) < len(result.findings):
        yield f"and {len(result.findings) - len(shown):,} more: --verbose shows all of them"
    for note in result.notes:
        yield f"{face.paint('note:', 'dim')} {display(note)}"
    counts = [output.plural(result.objects, "object"), output.plural(result.packs, "pack")]
    counts.append(output.plural(result.indexes, "index", "indexes"))
    how = {
        "full": f"all read ({output.size(result.bytes_read)})",
        "quick": "no object was read",
        "sample": f"{100 * result.share:.4g} % of them read ({output.plural(result.objects_read, 'object')}, "
        f"{output.size(result.bytes_read)}), --seed {result.seed}",
    }[result.mode]
    yield f"{display(result.store)}: {', '.join(counts)}; {how}"
    yield from _verdict_lines(face, result, remote)


def _finding_lines(face: Face, finding: Finding) -> Iterable[str]:
    what = finding.object or finding.file
    where = f" ({display(finding.file)})" if finding.object and finding.file else ""
    yield f"{face.paint.state(finding.problem)}  {display(what)}{where}: {display(finding.text)}"
    for need in finding.needed_by:
        at = f" at {display(need.revision)}" if need.revision else ""
        yield f"  needed by {face.path(need.path)}{at} ({display(need.record)})"
    if finding.needed > len(finding.needed_by) > 0:
        yield "  and by others"
    if finding.repaired:
        yield f"  repaired: {display(finding.repaired)}"
    if finding.kept:
        yield f"  kept as {display(finding.kept)}"


def _verdict_lines(face: Face, result: Checked, remote: str) -> Iterable[str]:
    left = [finding for finding in result.findings if not finding.repaired]
    of = f" --remote {shlex.quote(display(remote))}" if remote else ""
    if result.verdict == "sound":
        yield "everything is right"
        return
    done = len(result.findings) - len(left)
    if done:
        yield f"{output.plural(done, 'problem')} repaired"
    if result.verdict == "repaired":
        return
    tried = any(finding.repaired or finding.kept for finding in result.findings)
    word = "lost" if result.verdict == "lacking" else "damaged"
    yield f"{output.plural(len(left), 'problem')}: {word if not remote or word == 'damaged' else 'not on the remote'}"
    if all(finding.problem == "record" for finding in left):
        yield "no store can repair a record: correct it, or let go of the branch or tag that holds it"
    elif result.verdict == "lacking" and remote:
        if any(finding.cached for finding in left):
            yield from face.next(f"dvcx push --remote {shlex.quote(display(remote))}")
        if not all(finding.cached for finding in left):
            yield "what the cache has not comes from a project that has the data, by dvcx push there"
    elif not tried:
        yield from face.next(f"dvcx fsck{of} --repair")
    else:
        yield "no good copy was found: run dvcx push in a project that has the data, or record it again; then"
        yield from face.next(f"dvcx fsck{of} --repair")
