"""dvcx dag: draw how stages and data depend on one another."""

from __future__ import annotations

import sys
from typing import Annotated

from typer import Context, Option

from dvcx.cli import output
from dvcx.cli.face import Face
from dvcx.cli.frame import Verb, app
from dvcx.cli.options import Targets
from dvcx.errors import UsageError

app = app()


@app.command("dag", cls=Verb)
def dag(
    ctx: Context,
    targets: Targets = None,
    mermaid: Annotated[bool, Option("--mermaid", help="Write it for Mermaid.")] = False,
    dot: Annotated[bool, Option("--dot", help="Write it for Graphviz.")] = False,
) -> None:
    """Draw how stages and tracked data depend on one another.

    Examples:
      dvcx dag
      dvcx dag --mermaid train
      dvcx dag --dot | dot -Tsvg -o dag.svg

    Exits: 3 4 5 9 11
    """
    from dvcx.ops.dag import dag as op

    if mermaid and dot:
        raise UsageError("--mermaid and --dot exclude each other", "choose one")
    face: Face = ctx.obj
    project = face.project()
    result = op(project, face.targets(project, targets))

    def lines() -> list[str]:
        from dvcx.core.pipeline import drawing

        if not result.nodes:
            return ["there are no stages", *face.next("dvcx run -n NAME -d INPUT -o OUTPUT COMMAND")]
        if mermaid or dot:
            return (drawing.mermaid if mermaid else drawing.dot)(result.nodes, result.edges).splitlines()
        unicode = output.is_terminal(sys.stdout) and (sys.stdout.encoding or "").lower().startswith("utf")
        return drawing.ascii(result.nodes, result.edges, lines=unicode).splitlines()

    face.answer(result, lines)
