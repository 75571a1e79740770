"""dvcx remote: add, list, change and remove remotes."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face, working_directory
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import Local
from dvcx.errors import UsageError, display

app = app()

Name = Annotated[str, Argument(metavar="NAME", help="The remote's name.")]


@app.command("add", cls=Verb)
def add(
    ctx: Context,
    name: Name,
    url: Annotated[str, Argument(metavar="URL", help="A directory, s3://bucket/prefix, or another URL.")],
    default: Annotated[bool, Option("--default", "-d", help="Make it the default remote.")] = False,
    force: Annotated[bool, Option("--force", "-f", help="Replace a remote of that name.")] = False,
    actions: Annotated[
        str,
        Option(
            "--actions",
            metavar="off|read|write",
            help="What results of stages may do there: nothing, be looked up, be sent too (the default).",
            show_default=False,
        ),
    ] = "",
    local: Local = False,
) -> None:
    """Add a remote: a directory, an object store, or any URL fsspec knows.

    Examples:
      dvcx remote add -d origin s3://bucket/prefix
      dvcx remote add backup /mnt/backup/dvcx --actions off

    Exits: 3 4 7 8 11
    """
    from dvcx.ops.remote import add as op

    face: Face = ctx.obj
    project = face.project()
    result = op(project, name, url, default=default, force=force, local=local, base=working_directory(), actions=actions)
    push = "dvcx push" if default else f"dvcx push --remote {display(name)}"
    face.done(result, lambda: [f"added remote {display(name)}{' (default)' if default else ''}", *face.next(push)])


@app.command("list", cls=Verb)
def list_(ctx: Context) -> None:
    """List the remotes; a star marks the default.

    Examples:
      dvcx remote list

    Exits: 3 4
    """
    from dvcx.ops.remote import list_ as op

    face: Face = ctx.obj
    project = face.project()
    result = op(project)

    def lines() -> list[str]:
        rows = [("*" if item.default else " ", item.name, item.url) for item in result.items]
        return output.columns(rows) if rows else ["there are no remotes", *face.next("dvcx remote add -d NAME URL")]

    face.answer(result, lines)


@app.command("remove", cls=Verb)
def remove(ctx: Context, name: Name) -> None:
    """Forget a remote. What is stored there stays.

    Examples:
      dvcx remote remove backup

    Exits: 3 4 5 7 8
    """
    from dvcx.ops.remote import remove as op

    face: Face = ctx.obj
    result = op(face.project(), name)
    face.done(result, lambda: [f"forgot remote {display(name)}; what is stored there stays"])


@app.command("default", cls=Verb)
def default(ctx: Context, name: Name) -> None:
    """Make a remote the one that push, fetch and pull use.

    Examples:
      dvcx remote default backup

    Exits: 3 4 5 7 8
    """
    from dvcx.ops.remote import default as op

    face: Face = ctx.obj
    result = op(face.project(), name)
    face.done(result, lambda: [f"the default remote is {display(name)}"])


@app.command("modify", cls=Verb)
def modify(
    ctx: Context,
    name: Name,
    key: Annotated[str, Argument(metavar="KEY", help="As in url, region, actions, endpoint, profile.")],
    value: Annotated[str, Argument(metavar="VALUE", help="The new value.", show_default=False)] = "",
    unset: Annotated[bool, Option("--unset", help="Remove the setting.")] = False,
    local: Local = False,
) -> None:
    """Change or remove one setting of a remote. Credentials are only accepted with --local.

    Examples:
      dvcx remote modify origin region eu-central-1
      dvcx remote modify --local origin endpoint http://127.0.0.1:9000
      dvcx remote modify --local --unset origin access_key_id

    Exits: 3 4 5 7 8
    """
    from dvcx.ops.remote import modify as op

    if not value and not unset:
        raise UsageError(
            f"no value for {display(key)}", f"dvcx remote modify {display(name)} {display(key)} VALUE, or --unset"
        )
    face: Face = ctx.obj
    result = op(face.project(), name, key, value, unset=unset, local=local, base=working_directory())
    face.done(result, lambda: [f"{'removed' if unset else 'set'} {display(key)} of remote {display(name)}"])


@app.command("check", cls=Verb)
def check(
    ctx: Context,
    name: Annotated[str, Argument(metavar="NAME", help="The remote; the default one without it.", show_default=False)] = "",
    quick: Annotated[bool, Option("--quick", help="Leave out what sends 40 MiB.")] = False,
) -> int:
    """Try out on a remote all that dvcx needs of one: permissions, reads, writes, listings, large files, its clock.

    Everything happens under a private name, and nothing stays behind. It exits with 0 when the remote can be used, with
    1 when something it must do failed, and with 6 when it cannot be reached at all or denies the login.

    Examples:
      dvcx remote check
      dvcx remote check origin --quick

    Exits: 1 3 4 5 6
    """
    from dvcx.ops.remote import check as op

    face: Face = ctx.obj
    result = op(face.project(), name, quick=quick, emit=face.emit)
    styles = {"ok": "green", "failed": "red", "note": "yellow"}

    def lines() -> list[str]:
        width = max(len(item.check) for item in result.items)
        told = []
        for item in result.items:
            verdict = face.paint(item.verdict.ljust(7), styles.get(item.verdict, "dim"))
            told.append(f"{verdict}  {item.check.ljust(width)}  {display(item.words)}")
            if item.hint:
                told.append(f"{' ' * (width + 11)}{face.paint('hint:', 'cyan')} {display(item.hint)}")
        if result.fit:
            return [*told, f"remote {display(result.remote)} is fit for use"]
        use = ": it will do for fetch and pull only" if result.readable else ""
        return [*told, f"remote {display(result.remote)} is not fit for use{use}"]

    face.done(result, lines)
    return 0 if result.fit else 1
