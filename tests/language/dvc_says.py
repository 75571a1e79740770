"""Run by DVC's own Python, which knows nothing of dvcx: what DVC makes of each case. JSON in, JSON out, one process."""

from __future__ import annotations

import json
import os
import sys
import tempfile


def main() -> None:
    cases = json.load(sys.stdin)
    # DVC greets on stdout.
    answer, sys.stdout = sys.stdout, sys.stderr
    with tempfile.TemporaryDirectory() as root:
        os.chdir(root)
        from dvc.repo import Repo  # type: ignore[import-not-found,unused-ignore]

        repo = Repo.init(no_scm=True)
        with repo.config.edit() as config:
            for name in ("r", "store"):
                config["remote"][name] = {"url": f"{root}/remote"}
        with Repo(root) as repo:
            json.dump({name: _case(repo, root, name, files) for name, files in cases.items()}, answer)


def _case(repo, root: str, name: str, files: dict[str, str]) -> object:  # type: ignore[no-untyped-def]
    base = os.path.join(root, name)
    pipelines = []
    settings = {}
    for path, text in files.items():
        if path == ".dvc/config":
            settings = json.loads(text)
            continue
        full = os.path.join(base, path)
        os.makedirs(os.path.dirname(full), exist_ok=True)
        with open(full, "w", encoding="utf-8") as file:
            file.write(text)
        if os.path.basename(path) == "dvc.yaml":
            pipelines.append(full)
    repo.config["parsing"] = settings
    try:
        return {os.path.relpath(path, base): _pipeline(repo, path, base) for path in sorted(pipelines)}
    except Exception as error:
        return {"error": str(error)[:300] or type(error).__name__}


def _pipeline(repo, path: str, base: str) -> object:  # type: ignore[no-untyped-def]
    from dvc.dvcfile import load_file  # type: ignore[import-not-found,unused-ignore]

    file = load_file(repo, path)
    loaded = file.stages
    return {
        "stages": {name: _stage(loaded[name], base) for name in loaded},
        "params": file.params,
        "metrics": file.metrics,
        "plots": [next(iter(plot)) if isinstance(plot, dict) and None in plot.values() else plot for plot in file.plots],
        "artifacts": file.artifacts,
        "datasets": file.datasets,
    }


def _stage(stage, base: str) -> object:  # type: ignore[no-untyped-def]
    from dvc.dependency import ParamsDependency  # type: ignore[import-not-found,unused-ignore]

    def short(path: str) -> str:
        return os.path.relpath(path, base)

    def read(dep) -> str:  # type: ignore[no-untyped-def]
        # What is elsewhere stays as it is written.
        return str(dep.def_path) if "://" in dep.def_path or os.path.isabs(dep.def_path) else short(dep.fs_path)

    params = {short(dep.fs_path): dep.params for dep in stage.deps if isinstance(dep, ParamsDependency)}
    return {
        "cmd": stage.cmd,
        "wdir": short(stage.wdir),
        "deps": [read(dep) for dep in stage.deps if not isinstance(dep, ParamsDependency)],
        "params": {path: list(dict.fromkeys(keys)) for path, keys in params.items()},
        "outs": [_out(out, short(out.fs_path)) for out in stage.outs],
        "frozen": bool(stage.frozen),
        "always_changed": bool(stage.always_changed),
        "desc": stage.desc or "",
        "meta": stage.meta,
        "used": {short(path): sorted(keys) for path, keys in stage.tracked_vars.items() if keys},
    }


def _out(out, path: str) -> object:  # type: ignore[no-untyped-def]
    notes = out.annot
    return {
        "path": path,
        "cache": out.use_cache,
        "persist": out.persist,
        "push": out.can_push,
        "remote": out.remote or "",
        "metric": bool(out.metric),
        "plot": (out.plot if isinstance(out.plot, dict) else {}) if out.plot else None,
        "desc": notes.desc or "",
        "type": notes.type or "",
        "labels": list(notes.labels or []),
        "meta": notes.meta or None,
    }


if __name__ == "__main__":
    main()
