"""include: stages in other files are part of a dvcx.yaml; circles, clashes and mistakes are told with their places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dvcx.core.pipeline.schema import Metric
from dvcx.errors import Conflict, DvcxError, NotFound, UnsafeInput, UsageError
from dvcx.ops import records, stage
from dvcx.ops.repro import repro
from dvcx.ops.status import status
from dvcx.project import Project
from tests.ops.trying import again, lock

Put = Callable[..., None]

FILES = {
    "dvcx.yaml": "include: [parts/first.yaml]\nstages:\n"
                 "  last: {cmd: cat parts/mid > end, deps: ['stage:middle'], outs: [end]}\n",
    "parts/first.yaml": "include: deep/second.yaml\nmetrics: [m.json]\nstages:\n"
                        "  middle: {cmd: 'cat deep/begin in > mid', deps: ['stage:begin', in], outs: [mid]}\n",
    "parts/deep/second.yaml": "stages:\n  begin: {cmd: 'echo ${word} > begin', outs: [begin]}\n",
    "parts/deep/params.yaml": "word: hello\n",
    "parts/in": "x\n",
}  # fmt: skip


def test_included_stages_are_stages_of_the_file(project: Project, put: Put) -> None:
    put(FILES)
    assert [run.how for run in repro(project).runs] == ["ran"] * 3
    assert Path(project.root, "end").read_text() == "hello\nx\n"
    assert list(lock(project)) == ["begin", "last", "middle"]
    assert status(project).clean
    tracked = records.load(project)
    assert [(one.address, one.wdir) for one in tracked.stages] == [("last", ""), ("middle", "parts"), ("begin", "parts/deep")]
    assert tracked.pipelines["dvcx.yaml"].metrics == (Metric("parts/m.json"),)
    # What was remembered of the whole is given up when a part changes.
    put({"parts/deep/params.yaml": "word: bye\n"})
    assert [found.stage for found in status(project).stages if found.state == "stale"] == ["begin"]
    put({"parts/first.yaml": FILES["parts/first.yaml"].replace("deep/begin in", "deep/begin in in")})
    assert [found.stage for found in status(project).stages if found.state == "stale"] == ["middle", "begin"][::-1]
    done = stage.add(again(project), "more", "touch more", outs=["more"])
    assert done.stage.name == "more" and "include: [parts/first.yaml]" in Path(project.root, "dvcx.yaml").read_text()


@pytest.mark.parametrize(
    ("files", "error", "message"),
    [
        ({"dvcx.yaml": "include: none.yaml\n"}, NotFound, "dvcx.yaml:1:10: include: there is no file 'none.yaml'"),
        ({"dvcx.yaml": "include: [1]\n"}, UsageError, "dvcx.yaml:1:11: include[0] must be text"),
        ({"dvcx.yaml": "include: ../x.yaml\n"}, UnsafeInput, "dvcx.yaml:1:10: include: unsafe path '../x.yaml'"),
        ({"dvcx.yaml": "include: sub/dvcx.yaml\n"}, UsageError, "'sub/dvcx.yaml' is part of the project by itself"),
        ({"dvcx.yaml": "include: a.yaml\n", "a.yaml": "include: b.yaml\n", "b.yaml": "include: a.yaml\n"}, Conflict,
         "b.yaml:1:10: include: the files include one another in a circle: a.yaml → b.yaml → a.yaml"),
        ({"dvcx.yaml": "include: a.yaml\nstages: {s: {cmd: x}}\n", "a.yaml": "stages:\n  s: {cmd: y}\n"}, Conflict,
         "a.yaml:2:3: stage 's' is defined in dvcx.yaml:2:10 already"),
        ({"dvcx.yaml": "include: a.yaml\n", "a.yaml": "stagse: {}\n"}, UsageError, "a.yaml:1:1: unknown key 'stagse'"),
        ({"dvcx.yaml": "include: a0.yaml\n", **{f"a{n}.yaml": f"include: a{n + 1}.yaml\n" for n in range(12)}}, UsageError,
         "more than 10 levels of included files"),
    ],
)  # fmt: skip
def test_mistakes(project: Project, put: Put, files: dict[str, str], error: type[DvcxError], message: str) -> None:
    put(files)
    with pytest.raises(error) as caught:
        status(project)
    assert message in caught.value.message
