"""Run by DVC's own Python, which knows nothing of dvcx: what DVC shows of projects. JSON in, JSON out, one process.

`build` is also called by the tests, for the same project of dvcx.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence


def build(root: str, steps: Sequence[dict[str, str | None] | str], pipeline: str, repro: Callable[[], object]) -> None:
    """Give the repository `root` a history. A step writes files (null removes one), or is a word: repro, commit, or one of git's.

    A file named dvcx.yaml gets the name `pipeline`. A text that begins with base64: stands for bytes.
    """
    for step in steps:
        if isinstance(step, dict):
            for name, text in step.items():
                _write(os.path.join(root, *name.replace("dvcx.yaml", pipeline).split("/")), text)
        elif step == "repro":
            repro()
        elif step == "commit":
            _git(root, "add", "--all")
            _git(root, "commit", "--quiet", "--allow-empty", "--message", "x")
        else:
            _git(root, *step.split())


def _write(path: str, text: str | None) -> None:
    if text is None:
        os.unlink(path)
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(base64.b64decode(text[7:]) if text.startswith("base64:") else text.encode())


def _git(root: str, *words: str) -> None:
    subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)


def begin(root: str) -> None:
    """An empty repository."""
    os.makedirs(root)
    _git(root, "init", "--quiet", "--initial-branch=main")


def main() -> None:
    cases = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as top:
        said = {}
        for name, (steps, questions) in cases.items():
            root = os.path.join(top, name)
            first = {".dvc/config": "", ".dvc/.gitignore": "/tmp\n/cache\n/config.local\n"}
            begin(root)
            build(root, [first, *steps], "dvc.yaml", lambda root=root: _dvc(root, ["repro"]))
            said[name] = [_answer(root, question) for question in questions]
        json.dump(said, sys.stdout)


def _answer(root: str, question: list[str]) -> object:
    if question[:2] == ["params", "show"]:
        return _params(root, question[2:])
    if question[0] == "plots":
        return _plots(root, question[1], question[2:])
    out = _dvc(root, [*question, "--json"])
    try:
        return json.loads(out)
    except ValueError:
        return {"unreadable": out}


def _params(root: str, words: list[str]) -> object:
    """The command line of DVC has no `params show`; its library has."""
    from dvc.repo import Repo  # type: ignore[import-not-found,unused-ignore]

    targets = [word for word in words if not word.startswith("--")]
    os.chdir(root)
    with Repo(root) as repo:
        shown = repo.params.show(targets, deps_only="--deps" in words, all_commits="--all-commits" in words)
    return json.loads(json.dumps(shown, default=str))


def _plots(root: str, verb: str, words: list[str]) -> object:
    """What `plots --json` is made of: by plot the revision, x and y of each point, or the revisions of its images."""
    from dvc.render.match import match_defs_renderers  # type: ignore[import-not-found,unused-ignore]
    from dvc.repo import Repo  # type: ignore[import-not-found,unused-ignore]

    os.chdir(root)
    with Repo(root) as repo:
        shown = repo.plots.show(words) if verb == "show" else repo.plots.diff(revs=words)
        drawn = [one.renderer for one in match_defs_renderers(shown, out=os.path.join(root, "out"))]
    found = {}
    for one in drawn:
        x, y = (one.properties.get(axis) for axis in "xy")
        points = [[row["rev"]] if one.TYPE == "image" else [row["rev"], row.get(x), row.get(y)] for row in one.datapoints]
        if points:
            found[one.name] = points
    return found


def _dvc(root: str, words: list[str]) -> str:
    from dvc.cli import main as run  # type: ignore[import-not-found,unused-ignore]

    os.chdir(root)
    # It keeps streams that it has wrapped, so the descriptor is what is turned.
    sys.stdout.flush()
    kept = os.dup(1)
    with tempfile.TemporaryFile() as out:
        os.dup2(out.fileno(), 1)
        try:
            run(words)
            sys.stdout.flush()
        finally:
            os.dup2(kept, 1)
            os.close(kept)
        out.seek(0)
        return out.read().decode()


if __name__ == "__main__":
    main()
