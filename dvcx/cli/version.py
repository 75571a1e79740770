"""dvcx version: show versions."""

from __future__ import annotations

from dataclasses import dataclass

from typer import Context

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app

app = app()


@dataclass(frozen=True, slots=True)
class Version:
    """What is running."""

    dvcx: str
    python: str
    platform: str
    location: str


@app.command("version", cls=Verb)
def version(ctx: Context) -> None:
    """Show the versions of dvcx and Python, the platform, and where dvcx is installed.

    Examples:
      dvcx version
      dvcx --version

    Exits:
    """
    import os
    import platform

    import dvcx

    face: Face = ctx.obj
    result = Version(dvcx.__version__, platform.python_version(), platform.platform(), os.path.dirname(dvcx.__file__))
    face.answer(result, lambda: output.outline(result))
