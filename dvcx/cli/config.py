"""dvcx config: show and change settings."""

from __future__ import annotations

from typing import Annotated

from typer import Argument, Context

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import Local
from dvcx.errors import display

app = app()

Key = Annotated[str, Argument(metavar="KEY", help="As in core.remote or remote.origin.url.")]


@app.command("get", cls=Verb)
def get(ctx: Context, key: Key) -> None:
    """Print one setting.

    Examples:
      dvcx config get core.remote

    Exits: 3 4 5
    """
    from dvcx.ops.config import get as op

    face: Face = ctx.obj
    result = op(face.project(), key)
    face.answer(result, lambda: [_text(getattr(result, "value", result))])


@app.command("set", cls=Verb)
def set_(
    ctx: Context,
    key: Key,
    value: Annotated[str, Argument(metavar="VALUE", help="Lists are written with commas.")],
    local: Local = False,
) -> None:
    """Change one setting: in .dvcx/config.toml, which git keeps, or with --local for this machine only.

    Secrets and machine paths are only accepted with --local.

    Examples:
      dvcx config set core.autostage false
      dvcx config set --local cache.dir /mnt/cache
      dvcx config set --local cache.link hardlink,copy

    Exits: 3 4 5 7 8
    """
    from dvcx.ops.config import set_ as op

    face: Face = ctx.obj
    result = op(face.project(), key, value, local=local)
    face.done(result, lambda: [f"set {display(key)}"])


@app.command("unset", cls=Verb)
def unset(ctx: Context, key: Key, local: Local = False) -> None:
    """Remove one setting, so that its default holds.

    Examples:
      dvcx config unset core.autostage

    Exits: 3 4 5 7 8
    """
    from dvcx.ops.config import unset as op

    face: Face = ctx.obj
    result = op(face.project(), key, local=local)
    face.done(result, lambda: [f"unset {display(key)}"])


@app.command("list", cls=Verb)
def list_(ctx: Context) -> None:
    """List all settings and where each comes from. Secrets are not shown.

    Examples:
      dvcx config list

    Exits: 3 4
    """
    from dvcx.ops.config import show as op

    face: Face = ctx.obj
    result = op(face.project())
    face.answer(
        result,
        lambda: output.columns((item.key, _text(item.value), item.source) for item in result.items) or ["no settings"],
    )


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (list, tuple)):
        return ",".join(map(str, value))
    return display(str(value))
