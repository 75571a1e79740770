"""Inputs outside the project: read, compared and recorded; never fetched, kept or written."""

from __future__ import annotations

import http.server
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dvcx.errors import NotFound, RemoteFailed, UsageError
from dvcx.events import Warned
from dvcx.io.statindex import Memory
from dvcx.io.store.outside import version_at
from dvcx.ops.commit import commit
from dvcx.ops.exec_action import make_request
from dvcx.ops.externals import ask
from dvcx.ops.repro import repro
from dvcx.ops.status import status
from dvcx.ops.verify import verify
from dvcx.ops.why import why
from dvcx.project import Project
from tests.ops.trying import lock, objects, with_remote

Put = Callable[..., None]


class Web(http.server.ThreadingHTTPServer):
    """A web server whose headers are set by path; asks are counted. `/slow` never answers."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.headers: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        self.over = threading.Event()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}{path}"


class Handler(http.server.BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        assert isinstance(self.server, Web)
        self.server.asked.append(f"{self.command} {self.path}")
        if self.path == "/slow":
            self.server.over.wait(30)
            return
        headers = self.server.headers.get(self.path)
        status = 404 if headers is None else int(headers.get(f":{self.command}", 200))
        self.send_response(status)
        for name, value in (headers or {}).items():
            if not name.startswith(":"):
                self.send_header(name, value)
        self.end_headers()

    do_GET = do_HEAD

    def log_message(self, *words: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[Web]:
    with Web() as web:
        thread = threading.Thread(target=web.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        yield web
        web.over.set()
        web.shutdown()


@pytest.fixture
def web(server: Web) -> Web:
    server.headers.clear()
    server.asked.clear()
    return server


def turns(project: Project, **options: bool) -> list[tuple[str, tuple[str, ...]]]:
    return [(run.how, run.reasons) for run in repro(project, **options).runs]


def failure(project: Project, code: int) -> str:
    done = repro(project)
    assert (done.failed > 0, done.code) == (True, code)
    return done.runs[0].error


def hows(project: Project) -> list[str]:
    return [how for how, _ in turns(project)]


def test_files_outside(project: Project, put: Put, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "raw").mkdir()
    (outside / "raw/a.csv").write_text("1")
    (outside / "x.csv").write_text("x")
    (outside / "link").symlink_to("x.csv")
    up = os.path.relpath(outside, project.root)
    put({"in.txt": "in", "dvcx.yaml": f"""\
stages:
  read:
    cmd: cat {outside}/raw/a.csv {outside}/link in.txt > out
    deps: ["{outside}/raw", "{up}/link", "{project.root}/in.txt", "{outside}/none?"]
    outs: [out]
"""})  # fmt: skip
    assert hows(project) == ["ran"]
    entry = lock(project)["read"]
    assert list(entry["external"]) == sorted([f"{outside}/raw", f"{up}/link", f"{outside}/none"])
    assert entry["external"][f"{outside}/none"] is None
    assert entry["external"][f"{up}/link"].startswith("file ")
    assert [dep["path"] for dep in entry["deps"]] == ["in.txt"]
    assert objects(project) == 1  # the output: nothing from outside
    assert status(project).clean
    assert hows(project) == ["unchanged"]
    # The same bytes written anew, and a repository's own files in the directory, are no change.
    (outside / "x.csv").write_text("x")
    (outside / "raw/.git").mkdir()
    assert status(project).clean
    (outside / "raw/a.csv").write_text("2")
    (outside / "none").write_text("")
    ((stage,)) = status(project).stages
    assert stage.reasons == (f"{outside}/raw: changed", f"{outside}/none: was missing, and is there now")
    assert hows(project) == ["ran"]
    # An earlier state again: its result is known.
    (outside / "raw/a.csv").write_text("1")
    (outside / "none").unlink()
    assert hows(project) == ["restored"]
    (outside / "x.csv").unlink()
    assert status(project).stages[0].reasons == (f"{up}/link: is missing",)
    assert "link: is missing" in failure(project, 10)


def test_what_is_refused_of_them(project: Project, put: Put, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (outside / "x").write_text("1")
    put({"dvcx.yaml": f"stages: {{a: {{cmd: 'cat {outside}/x > out', deps: ['{outside}/x'], outs: [out]}}}}"})
    with pytest.raises(UsageError, match="outside the project"):
        make_request(project, "a")
    repro(project)
    with pytest.raises(UsageError, match="outside the project"):
        verify(project, "a")
    put({"dvcx.yaml": f"stages: {{a: {{cmd: 'echo 2 > {outside}/x; touch out', deps: ['{outside}/x'], outs: [out]}}}}"})
    assert "x changed while the command ran" in failure(project, 10)
    os.mkfifo(outside / "pipe")
    put({"dvcx.yaml": f"stages: {{a: {{cmd: touch out, deps: ['{outside}/pipe'], outs: [out]}}}}"})
    assert "a named pipe (FIFO) cannot be tracked" in failure(project, 10)


def test_urls(project: Project, put: Put, web: Web) -> None:
    web.headers["/x.csv"] = {"ETag": '"one"', "Content-Length": "3"}
    url = web.url("/x.csv")
    put({"dvcx.yaml": f"""\
stages:
  a: {{cmd: touch a, deps: ['{url}'], outs: [a]}}
  b: {{cmd: touch b, deps: ['{url}', a], outs: [b]}}
"""})  # fmt: skip
    assert hows(project) == ["ran", "ran"]
    assert lock(project)["a"]["external"] == {url: 'etag "one"'}
    web.asked.clear()
    assert hows(project) == ["unchanged", "unchanged"]
    assert web.asked == ["HEAD /x.csv"]  # once in a run
    web.headers["/x.csv"]["ETag"] = '"two"'
    assert status(project).stages[0].reasons == (f'{url}: changed (etag "one" → etag "two")',)
    assert hows(project) == ["ran", "ran"]
    commit(project)
    # A server that says no more than that it is there, and one that is gone.
    del web.headers["/x.csv"]["ETag"]
    told: list[object] = []
    assert status(project, emit=told.append).clean
    (warned,) = [event for event in told if isinstance(event, Warned)]
    assert "not asked, and taken as recorded" in warned.message
    assert "neither ETag nor Last-Modified" in warned.message
    assert f"{url}: not asked" in [cause.text for cause in why(project, ["a"]).stages[0].causes]
    # What else changed is told all the same.
    put({"dvcx.yaml": "stages:" + "".join(f"\n  {it}: {{cmd: touch {it}, deps: ['{url}'], outs: [{it}]}}" for it in "ac")})
    assert [(stage.state, stage.reasons) for stage in status(project).stages] == [("fresh", ()), ("stale", ("never run",))]
    assert "neither ETag nor Last-Modified" in failure(project, 6)
    del web.headers["/x.csv"]
    assert f"{url}: is missing" in status(project).stages[0].reasons


def test_a_frozen_stage_asks_nobody(project: Project, put: Put, web: Web) -> None:
    put({"dvcx.yaml": f"stages: {{a: {{cmd: touch a, deps: ['{web.url('/gone')}'], outs: [a], frozen: true}}}}", "a": ""})
    status(project)
    assert web.asked == []


def test_a_server_that_does_not_answer_holds_nobody_up(project: Project, web: Web) -> None:
    urls = [web.url("/slow"), "http://127.0.0.1:9/closed", "nope://host/x", "remote://none/x"]
    answers = ask(project, urls, index=Memory(), patience=0.5)
    assert answers.found == {}
    said = [answers.unasked[url].message for url in urls]
    assert "no answer within 0.5 seconds" in said[0]
    assert "could not be asked" in said[1]
    assert "'nope://' is no scheme" in said[2]
    assert "no remote" in said[3]


def test_what_a_web_server_says(web: Web) -> None:
    web.headers.update({
        "/strong": {"ETag": '"1"', "Last-Modified": "Tue"},
        "/weak": {"ETag": 'W/"1"', "Last-Modified": "Tue", "Content-Length": "5"},
        "/only-weak": {"ETag": 'W/"1"'},
        "/no-head": {":HEAD": "405", "ETag": '"1"'},
        "/login": {":HEAD": "401"},
        "/down": {":HEAD": "503"},
        "/moved": {":HEAD": "302", "Location": "/strong"},
    })  # fmt: skip

    def says(path: str) -> str:
        return version_at(web.url(path), {}, timeout=5)

    assert [says(path) for path in ("/strong", "/weak", "/only-weak", "/no-head", "/absent", "/moved")] == [
        'etag "1"', "modified Tue 5", 'etag W/"1"', 'etag "1"', "", 'etag "1"',
    ]  # fmt: skip
    with pytest.raises(RemoteFailed, match="access denied"):
        says("/login")
    with pytest.raises(RemoteFailed, match="answered 503"):
        says("/down")


def test_stores(project: Project, tmp_path: Path) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.pipe_file("/bucket/data/x.csv", b"1")

    def says(url: str) -> str:
        return version_at(url, {}, timeout=5)

    first, listed = says("memory://bucket/data/x.csv"), says("memory://bucket/data")
    assert first.startswith("modified ")
    assert listed.startswith("list ")
    assert listed.endswith(" 1")
    assert says("memory://bucket/none") == ""
    memory.pipe_file("/bucket/data/x.csv", b"2")
    assert says("memory://bucket/data/x.csv") != first
    assert says("memory://bucket/data") != listed
    # A remote that is a directory: its files are files.
    there = with_remote(project, tmp_path / "store")
    (tmp_path / "store/x").write_text("1")
    assert ask(there, ["remote://origin/x"], index=Memory(), patience=5).found["remote://origin/x"].startswith("file ")


def test_a_data_set_of_dvc_is_what_its_entry_says_and_nobody_is_asked(project: Project, put: Put) -> None:
    told = "datasets: [{name: raw, type: dvc, url: 'https://no.such.invalid/r', path: d.csv, rev: %s}]\n"
    stages = "stages: {a: {cmd: echo a >> runs, deps: ['ds://raw']}}\n"
    put({"dvcx.yaml": told % "v1" + stages, "sub/dvcx.yaml": stages})
    assert [how for how, _ in turns(project)] == ["ran", "ran"]
    assert "https://no.such.invalid/r path=d.csv rev=v1" in Path(project.root, "dvcx.lock").read_text()
    assert [how for how, _ in turns(project)] == ["unchanged", "unchanged"]
    put({"dvcx.yaml": told % "v2" + stages})
    assert [run[1] for run in turns(project)] == [
        ("ds://raw: changed (dvc https://no.such.invalid/r path=d.csv rev=v1 → dvc https://no.such.invalid/r path=d.csv rev=v2)",)
    ] * 2
    put({"dvcx.yaml": told.replace("raw,", "raw, rev_lock: 3f9,") % "v2" + stages})
    assert [len(one.reasons) for one in status(project).stages] == [1, 1]
    put({"dvcx.yaml": told.replace("raw", "rwa") % "v2" + stages})
    with pytest.raises(NotFound, match=r"dvcx.yaml:2:\d+: stage 'a': there is no data set 'raw'"):
        status(project)
