"""Git through the real program: every kind of work tree, hostile configuration, odd names, and the .gitignore lines."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dvcx.core.records import MAX_POINTER
from dvcx.errors import Busy, IntegrityError, NotFound, UnsafeInput, UsageError
from dvcx.io import git as g

Run = Callable[..., str]
CANARY = "CANARY-8d1f"


def make(root: Path, *paths: str, data: bytes = b"{}") -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)


def opened(root: Path) -> g.Git:
    found = g.open_git(os.path.realpath(root))
    assert found is not None
    return found


@pytest.fixture
def committed(repo: Path, git: Run) -> Path:
    """A repository with a first commit: x.dvcx, sub/y.dvcx, sub/dvcx.yaml and sub/dvcx.lock, readme."""
    make(repo, "x.dvcx", "sub/y.dvcx", "sub/dvcx.yaml", "sub/dvcx.lock", "readme")
    git("add", ".")
    git("commit", "-qm", "first")
    return repo


RECORDS = ["sub/dvcx.lock", "sub/dvcx.yaml", "sub/y.dvcx", "x.dvcx"]


def test_snapshots_are_what_single_questions_say(committed: Path, git: Run) -> None:
    make(committed, "sub/deep/z.dvcx", "sub/.dvcx/config.toml", "a/odd\nname.dvcx", "a/config.toml")
    (committed / "link.dvcx").symlink_to("x.dvcx")
    git("add", "--all")
    git("commit", "-qm", "second")
    for root in (committed, committed / "sub"):
        found = opened(root)
        commits = g.commits(found)
        assert len(commits) == 2 and g.commits(found, 1) == commits[:1]
        with g.Snapshots(found) as snapshots:
            for commit in commits:
                names = g.record_files_at(found, commit)
                assert snapshots.records(commit) == names
                assert {name: snapshots.read(commit, name, 100) for name in names} == g.read_at(found, commit, names)
    with g.Snapshots(opened(committed)) as snapshots:
        new, old = commits
        assert snapshots.read(new, "none", 9) is None and snapshots.read(new, "sub", 9) is None
        assert sorted(snapshots.files(new, "sub/deep")) == ["sub/deep/z.dvcx"] and snapshots.files(old, "sub/deep") == []
        assert snapshots.blob(old, "x.dvcx") == snapshots.blob(new, "readme") != ""
        with pytest.raises(UnsafeInput, match="larger than 1 B"):
            snapshots.read(new, "readme", 1)
        with pytest.raises(UnsafeInput, match="symbolic link"):
            snapshots.read(new, "link.dvcx", 100)
        with pytest.raises(NotFound, match="partial or damaged"):
            snapshots.read("0" * 40, "x", 100)
        assert snapshots.read(new, "readme", 2) == b"{}"


def test_commits_of_an_empty_repository(repo: Path) -> None:
    assert g.commits(opened(repo)) == []


def test_no_repository(tmp_path: Path) -> None:
    assert g.open_git(str(tmp_path)) is None
    (tmp_path / ".git").mkdir()
    assert g.open_git(str(tmp_path)) is None
    (tmp_path / ".git").rmdir()
    (tmp_path / ".git").write_text("rubbish")
    assert g.open_git(str(tmp_path)) is None


def test_the_root_a_subdirectory_and_where_they_lie(committed: Path) -> None:
    top = opened(committed)
    assert (top.top, top.git_dir, top.common_dir, top.prefix) == (str(committed), f"{committed}/.git", f"{committed}/.git", "")
    below = opened(committed / "sub")
    assert (below.root, below.top, below.prefix) == (f"{committed}/sub", str(committed), "sub")
    assert g.record_files(top) == RECORDS
    assert g.record_files(below) == ["dvcx.lock", "dvcx.yaml", "y.dvcx"]
    assert g.record_files_at(below, "HEAD") == ["dvcx.lock", "dvcx.yaml", "y.dvcx"]
    assert g.read_at(below, "HEAD", ["y.dvcx", "x.dvcx"]) == {"y.dvcx": b"{}"}


def test_opening_runs_nothing(committed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    assert opened(committed).top == str(committed)


def test_without_a_git_program(
    committed: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path_factory.mktemp("empty")))
    with pytest.raises(UsageError, match="no git program") as caught:
        g.open_git(str(committed))
    assert "install git" in caught.value.hint
    assert g.open_git(str(tmp_path_factory.mktemp("plain"))) is None


def test_a_worktree(committed: Path, git: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("trees") / "other"
    git("worktree", "add", "-q", str(other), "-b", "side")
    found = opened(other)
    assert found.top == str(other) and found.git_dir == f"{committed}/.git/worktrees/other"
    assert found.common_dir == f"{committed}/.git"
    make(other, "z.dvcx")
    g.add(found, ["z.dvcx"])
    assert g.record_files(found) == [*RECORDS, "z.dvcx"] and g.record_files(opened(committed)) == RECORDS
    assert opened(other / "sub").prefix == "sub"


def test_a_submodule(committed: Path, git: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    outer = tmp_path_factory.mktemp("outer")
    git("init", "-q", cwd=outer)
    git("submodule", "--quiet", "add", str(committed), "lib", cwd=outer)
    inner = opened(outer / "lib")
    assert inner.top == str(outer / "lib") and inner.git_dir == f"{outer}/.git/modules/lib"
    assert g.record_files(inner) == RECORDS and g.resolve(inner, "HEAD") == git("rev-parse", "HEAD").strip()
    assert g.record_files(opened(outer)) == []
    with pytest.raises(UsageError, match="submodule"):
        g.add(opened(outer), ["lib/x.dvcx"])
    assert g.tracked(opened(outer), ["lib/x.dvcx", "lib"]) == {"lib"}


def test_a_detached_head_and_an_unborn_one(repo: Path, git: Run) -> None:
    make(repo, "x.dvcx")
    found = opened(repo)
    assert g.record_files(found) == ["x.dvcx"]
    with pytest.raises(NotFound, match="no commit yet"):
        g.resolve(found, "HEAD")
    with pytest.raises(NotFound):
        g.record_files_at(found, "HEAD")
    g.add(found, ["x.dvcx"])
    git("commit", "-qm", "a")
    git("checkout", "-q", "--detach")
    assert g.record_files_at(found, "HEAD") == ["x.dvcx"]


def test_records_tracked_untracked_ignored_deleted_nested(committed: Path, git: Run) -> None:
    make(committed, "new.dvcx", "data/hidden.dvcx", "nested/.dvcx/config.toml", "nested/n.dvcx", ".dvcx/z.dvcx", "a.dvcx/b")
    make(committed, "forced.dvcx", ".gitignore", data=b"/data\n/forced.dvcx\n.dvcx/z.dvcx\n")
    (committed / "x.dvcx").unlink()
    found = opened(committed)
    assert g.record_files(found) == sorted([*RECORDS, "new.dvcx"])
    g.add(found, ["forced.dvcx"])
    assert g.record_files(found) == sorted([*RECORDS, "new.dvcx", "forced.dvcx"])


def test_a_merge_conflict_names_a_record_once(committed: Path, git: Run) -> None:
    git("checkout", "-qb", "side")
    for branch, data in (("side", b"1"), ("main", b"2")):
        git("checkout", "-q", branch)
        make(committed, "x.dvcx", data=data)
        git("commit", "-qam", branch)
    assert subprocess.run(["git", "merge", "side"], cwd=committed, capture_output=True).returncode == 1
    assert g.record_files(opened(committed)) == RECORDS


def test_linked_records_at_a_revision_are_left_out(committed: Path, git: Run) -> None:
    (committed / "link.dvcx").symlink_to("/etc/passwd")
    git("add", ".")
    git("commit", "-qm", "link")
    assert g.record_files_at(opened(committed), "HEAD") == RECORDS


def test_revisions(committed: Path, git: Run) -> None:
    found = opened(committed)
    first = git("rev-parse", "HEAD").strip()
    git("tag", "-am", "v1", "v1")
    make(committed, "x.dvcx", data=b"second")
    git("commit", "-qam", "second")
    for name in ("v1", "HEAD~1", first, first[:10], "main^", "HEAD^{/first}"):
        assert g.resolve(found, name) == first
    assert g.read_at(found, "v1", ["x.dvcx"]) == {"x.dvcx": b"{}"}
    assert g.read_at(found, "HEAD", ["x.dvcx", "none", "sub"]) == {"x.dvcx": b"second"}
    assert g.read_at(found, "HEAD", []) == {}
    for bad in ("", "nope", "-h", "--all", "HEAD:x.dvcx", "HEAD..v1", "a b", "x\ny", "a\0b", "0" * 40, "\x1b[31m"):
        with pytest.raises(NotFound) as caught:
            g.resolve(found, bad)
        assert caught.value.exit_code == 5 and caught.value.message.isprintable()
    for ask in (lambda: g.read_at(found, "0" * 40, ["x.dvcx"]), lambda: g.record_files_at(found, "0" * 40)):
        with pytest.raises(NotFound):
            ask()


def test_many_files_at_a_revision(repo: Path, git: Run) -> None:
    paths = [f"d{number % 10}/{number}.dvcx" for number in range(2000)]
    for path in paths:
        make(repo, path, data=path.encode() * 50)
    git("add", ".")
    git("commit", "-qm", "many")
    found = opened(repo)
    assert g.record_files(found) == sorted(paths) == g.record_files_at(found, "HEAD")
    read = g.read_at(found, "HEAD", paths)
    assert len(read) == 2000 and all(data == path.encode() * 50 for path, data in read.items())


def test_a_huge_pointer_in_history_is_not_read(committed: Path, git: Run) -> None:
    make(committed, "x.dvcx", data=b"x" * (MAX_POINTER + 1))
    git("commit", "-qam", "huge")
    with pytest.raises(UnsafeInput, match="larger"):
        g.read_at(opened(committed), "HEAD", ["sub/y.dvcx", "x.dvcx"])


ODD = ["-rf", "a b", "new\nline", "tab\t", 'quo"te', "back\\slash", "*", "a[b]", "q?", "!x", "#x", ":(top)x", ":!x", "é🎉"]
ODD += ["e\u0301", "\x1b[31m", "[bold]", "tail ", " lead", "$(touch PWNED)", "a,b", "HEAD", "x" * 240]


@pytest.mark.parametrize("name", ODD)
def test_odd_names_go_through_everything(repo: Path, git: Run, name: str) -> None:
    make(repo, f"{name}.dvcx", f"d/{name}/{name}.dvcx", "other.dvcx", data=name.encode())
    found = opened(repo)
    paths = [f"d/{name}/{name}.dvcx", f"{name}.dvcx"]
    assert set(g.record_files(found)) == {*paths, "other.dvcx"}
    g.add(found, paths)
    assert g.tracked(found, [*paths, f"d/{name}", "other.dvcx"]) == {*paths, f"d/{name}"}
    git("commit", "-qm", "odd")
    assert set(g.record_files_at(found, "HEAD")) == set(paths)
    assert g.read_at(found, "HEAD", paths) == dict.fromkeys(paths, name.encode())
    changed = g.ignore_all(str(repo), [name, f"d/{name}/data"])
    assert changed == [".gitignore", f"d/{name}/.gitignore"]
    assert g.ignored(found, [name, name + "x", f"d/{name}/data", f"d/{name}"]) == {name, f"d/{name}/data"}
    assert g.unignore_all(str(repo), [name, f"d/{name}/data"]) == changed
    assert g.ignored(found, [name, f"d/{name}/data"]) == set() and not (repo / ".gitignore").exists()


def test_a_name_that_is_not_utf8(repo: Path) -> None:
    try:
        os.close(os.open(os.fsencode(repo) + b"/caf\xe9.dvcx", os.O_CREAT | os.O_WRONLY))
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    assert g.record_files(opened(repo)) == ["caf\udce9.dvcx"]


def test_add_takes_ignored_gone_and_unknown_paths(committed: Path, git: Run) -> None:
    make(committed, "data.dvcx", ".gitignore", data=b"*.dvcx\n")
    (committed / "x.dvcx").unlink()
    found = opened(committed)
    g.add(found, ["data.dvcx", "x.dvcx", "never.dvcx", ".gitignore", ".gitignore"])
    assert git("status", "--porcelain").split("\n")[:3] == ["A  .gitignore", "A  data.dvcx", "D  x.dvcx"]
    g.add(found, [])
    g.add(found, ["never.dvcx"])


def test_add_in_a_subdirectory(committed: Path, git: Run) -> None:
    make(committed, "sub/new.dvcx")
    g.add(opened(committed / "sub"), ["new.dvcx"])
    assert "A  sub/new.dvcx" in git("status", "--porcelain")


def test_add_through_a_link_is_unsafe(committed: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    make(elsewhere, "z.dvcx")
    (committed / "link").symlink_to(elsewhere)
    for ask in (g.add, g.ignored):
        with pytest.raises(UnsafeInput, match="symbolic link"):
            ask(opened(committed), ["link/z.dvcx"])


def test_add_while_another_git_holds_the_index(committed: Path) -> None:
    make(committed, "new.dvcx", ".git/index.lock")
    with pytest.raises(Busy) as caught:
        g.add(opened(committed), ["new.dvcx"])
    assert caught.value.exit_code == 7 and "index.lock" in caught.value.hint


def test_tracked_with_more_paths_than_a_command_line_holds(committed: Path) -> None:
    paths = [f"{'d' * 150}/{number}.dvcx" for number in range(3000)]
    assert g.tracked(opened(committed), [*paths, "sub", "x.dvcx", "readm"]) == {"sub", "x.dvcx"}
    assert g.ignored(opened(committed), paths) == set()
    assert g.ignored(opened(committed), []) == set() == g.tracked(opened(committed), [])


def test_ignored_also_names_what_is_tracked(committed: Path) -> None:
    make(committed, ".gitignore", data=b"/sub\n")
    assert g.ignored(opened(committed), ["sub", "sub/y.dvcx", "x.dvcx"]) == {"sub", "sub/y.dvcx"}


def test_no_configured_code_runs_on_questions_or_add(
    committed: Path, git: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trap = tmp_path_factory.mktemp("trap") / "PWNED"
    script = committed / "evil.sh"
    script.write_text(f"#!/bin/sh\ntouch {trap}\nexit 1\n")
    script.chmod(0o755)
    for name in ("post-index-change", "post-checkout", "pre-commit", "fsmonitor-watchman"):
        (committed / ".git" / "hooks").mkdir(exist_ok=True)
        (committed / ".git" / "hooks" / name).write_text(script.read_text())
        (committed / ".git" / "hooks" / name).chmod(0o755)
    for key in ("core.fsmonitor", "core.pager", "core.editor", "diff.external", "core.sshCommand", "gpg.program"):
        git("config", key, str(script))
    git("config", "core.hooksPath", str(committed / ".git" / "hooks"))
    for key in ("alias.ls-files", "alias.add"):
        git("config", key, f"!{script}")
    make(committed, "new.dvcx", ".gitattributes", data=b"*.dvcx diff=evil\n")
    trap.unlink(missing_ok=True)
    found = opened(committed)
    head = g.resolve(found, "HEAD")
    g.record_files(found)
    g.record_files_at(found, head)
    g.read_at(found, head, ["x.dvcx"])
    g.ignored(found, ["x"])
    g.tracked(found, ["x.dvcx"])
    g.add(found, ["new.dvcx"])
    versions = g.history(found, 100)
    assert versions and dict(g.read_versions(found, versions))
    g.refs_with(found, versions, 10)
    assert not trap.exists()


def test_a_missing_blob_in_a_partial_clone_is_no_absent_file_and_starts_no_transport(
    committed: Path, git: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    git("config", "uploadpack.allowFilter", "true")
    for data in (b"first", b"second"):
        make(committed, "x.dvcx", data=data)
        git("commit", "-qam", "next")
    clone = tmp_path_factory.mktemp("partial") / "clone"
    git("clone", "-q", "--filter=blob:none", f"file://{committed}", str(clone))
    trap = clone / "PWNED"
    git("config", "remote.origin.uploadpack", f"touch {trap}; git-upload-pack", cwd=clone)
    found = opened(clone)
    assert g.read_at(found, "HEAD", ["x.dvcx"]) == {"x.dvcx": b"second"}
    assert g.record_files_at(found, "HEAD~1") == RECORDS
    with pytest.raises(NotFound, match=r"partial|promisor|transport") as caught:
        g.read_at(found, "HEAD~1", ["x.dvcx"])
    assert "refetch" in caught.value.hint and not trap.exists()


def test_the_environment_of_a_hook_leads_nowhere_else(
    committed: Path, tmp_path_factory: pytest.TempPathFactory, git: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path_factory.mktemp("other")
    git("init", "-q", cwd=other)
    for name, value in (("GIT_DIR", f"{other}/.git"), ("GIT_WORK_TREE", str(other)), ("GIT_INDEX_FILE", f"{other}/.git/index")):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(committed))
    assert g.record_files(opened(committed / "sub")) == ["dvcx.lock", "dvcx.yaml", "y.dvcx"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a repository away")
def test_a_repository_of_another_user_is_refused(committed: Path) -> None:
    for path in (committed, committed / ".git"):
        os.chown(path, 12345, 12345)
    with pytest.raises(UnsafeInput, match="another user") as caught:
        g.record_files(opened(committed))
    assert caught.value.exit_code == 9 and "safe.directory" in caught.value.hint
    for ask in (lambda: g.resolve(opened(committed), "HEAD"), lambda: g.ignored(opened(committed), ["x"])):
        with pytest.raises(UnsafeInput):
            ask()


def test_a_damaged_repository(committed: Path) -> None:
    make(committed, ".git/index", data=b"rubbish, but long enough for a header")
    with pytest.raises(IntegrityError) as caught:
        g.record_files(opened(committed))
    assert "fsck" in caught.value.hint


def test_reading_works_where_nothing_can_be_written(committed: Path) -> None:
    make(committed, ".git/index.lock")
    found = opened(committed)
    assert g.record_files(found) == RECORDS and g.tracked(found, ["x.dvcx"]) == {"x.dvcx"}


# .gitignore


def test_ignore_adds_one_line_and_keeps_the_rest(repo: Path) -> None:
    make(repo, "data/.gitignore", data=b"*.tmp\n# mine")
    assert g.ignore(str(repo), "data/x.csv") == "data/.gitignore"
    assert g.ignore(str(repo), "data/x.csv") == ""
    assert (repo / "data" / ".gitignore").read_bytes() == b"*.tmp\n# mine\n/x.csv\n"
    assert g.unignore(str(repo), "data/x.csv") == "data/.gitignore"
    assert g.unignore(str(repo), "data/x.csv") == ""
    assert (repo / "data" / ".gitignore").read_bytes() == b"*.tmp\n# mine\n"


def test_ignore_keeps_the_files_line_ends(repo: Path) -> None:
    make(repo, ".gitignore", data=b"*.tmp\r\n")
    g.ignore(str(repo), "x")
    assert (repo / ".gitignore").read_bytes() == b"*.tmp\r\n/x\r\n" and g.ignore(str(repo), "x") == ""
    g.unignore(str(repo), "x")
    assert (repo / ".gitignore").read_bytes() == b"*.tmp\r\n"


def test_ignore_all_writes_each_file_once_and_nothing_else_is_ignored(repo: Path) -> None:
    make(repo, "data/x")
    assert g.ignore_all(str(repo), ["data/a", "b", "data/c"]) == ["data/.gitignore", ".gitignore"]
    assert g.ignored(opened(repo), ["data/a", "data/c", "b", "a", "data/b", "data/sub/a", "data"]) == {"data/a", "data/c", "b"}
    assert g.unignore_all(str(repo), ["nowhere/x"]) == [] and g.unignore(str(repo), "none/x") == ""


def test_a_linked_ignore_file_is_refused(repo: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    victim = tmp_path_factory.mktemp("victim") / "file"
    victim.write_text("precious")
    (repo / ".gitignore").symlink_to(victim)
    for change in (g.ignore, g.unignore):
        with pytest.raises(UnsafeInput):
            change(str(repo), "x")
    assert victim.read_text() == "precious"


names = st.text(st.sampled_from("ab *?[]\\!#-.é\n\t"), min_size=1, max_size=8).filter(lambda name: name.strip(". \t"))


@settings(max_examples=25)
@given(st.lists(names, min_size=2, max_size=4, unique=True))
def test_a_line_ignores_its_name_alone(tmp_path_factory: pytest.TempPathFactory, several: list[str]) -> None:
    root = tmp_path_factory.mktemp("ignore")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    g.ignore(str(root), several[0])
    expected = {several[0]}
    if "\n" in several[0]:
        # The "?" that stands for a newline matches any one character.
        several = [name for name in several if len(name) != len(several[0]) or name == several[0]]
    assert g.ignored(opened(root), several) == expected


# Clones


def test_clone_read_fetch(committed: Path, git: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = str(tmp_path_factory.mktemp("cache") / "clones" / "one")
    git("tag", "v1")
    for url in (str(committed), f"file://{committed}"):
        clone = g.clone_bare(url, directory)
        assert g.record_files_at(clone, "main") == RECORDS == g.record_files_at(clone, "v1")
        assert g.read_at(clone, "HEAD", ["x.dvcx"]) == {"x.dvcx": b"{}"}
    make(committed, "x.dvcx", data=b"second")
    git("commit", "-qam", "second")
    git("tag", "-f", "v1")
    assert g.read_at(clone, "HEAD", ["x.dvcx"]) == {"x.dvcx": b"{}"}
    g.fetch(clone)
    assert g.read_at(clone, "HEAD", ["x.dvcx"]) == g.read_at(clone, "v1", ["x.dvcx"]) == {"x.dvcx": b"second"}
    assert not os.path.exists(f"{directory}/hooks") and os.listdir(os.path.dirname(directory)) == ["one"]


def test_a_clone_is_read_where_bare_repositories_must_be_named(
    committed: Path, git: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    git("config", "--global", "safe.bareRepository", "explicit")
    clone = g.clone_bare(str(committed), str(tmp_path_factory.mktemp("cache") / "one"))
    assert g.resolve(clone, "HEAD")


BAD_URLS = ["ext::sh -c 'touch PWNED'", "fd::7", "-u touch", "--upload-pack=touch PWNED", "", "a\0b", "/nowhere/at/all"]


@pytest.mark.parametrize("url", BAD_URLS)
def test_bad_urls_clone_nothing_and_run_nothing(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises((UsageError, NotFound)) as caught:
        g.clone_bare(url, str(tmp_path / "cache" / "one"))
    assert caught.value.message.isprintable() and caught.value.hint
    assert not (tmp_path / "PWNED").exists()
    assert not (tmp_path / "cache").exists() or os.listdir(tmp_path / "cache") == []


def test_a_password_in_a_url_is_refused_and_one_in_gits_words_is_hidden(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as caught:
        g.clone_bare(f"https://u:{CANARY}@h/x", str(tmp_path / "one"))
    assert CANARY not in caught.value.message + caught.value.hint
    assert CANARY not in g._without_passwords(f"unable to access 'https://u:{CANARY}@h/x'")


def test_a_clone_takes_no_hooks_from_a_template(
    committed: Path, git: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = tmp_path / "template" / "hooks"
    template.mkdir(parents=True)
    (template / "post-checkout").write_text(f"#!/bin/sh\ntouch {tmp_path}/PWNED\n")
    (template / "post-checkout").chmod(0o755)
    git("config", "--global", "init.templateDir", str(template.parent))
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(template.parent))
    g.clone_bare(str(committed), str(tmp_path / "cache" / "one"))
    assert not (tmp_path / "cache" / "one" / "hooks").exists() and not (tmp_path / "PWNED").exists()


def test_untrack_leaves_the_files(committed: Path, git: Run) -> None:
    (committed / "d").mkdir()
    for name in ("d/one", ":odd", "staged"):
        (committed / name).write_text("1")
    git("add", "-A")
    git("commit", "-qm", "more")
    (committed / "staged").write_text("2")
    git("add", "staged")
    (committed / "staged").write_text("3")
    repository = g.open_git(str(committed))
    assert repository is not None
    g.untrack(repository, ["d", ":odd", "staged", "never known"])
    g.untrack(repository, [])
    assert git("ls-files", "d", "./:odd", "staged") == ""
    assert (committed / "d/one").read_text() == "1"
    assert (committed / "staged").read_text() == "3"


def test_the_version_of_git() -> None:
    assert g.version().split(".")[0].isdigit()


# All that git holds


def blobs(root: Path) -> dict[str, set[str]]:
    """Contents of all record blobs by path."""
    there = opened(root)
    found: dict[str, set[str]] = {}
    names = g.record_blobs(there)
    for name, data in g.read_blobs(there, names):
        for path in names[name]:
            found.setdefault(path, set()).add(data.decode())
    return found


def test_every_version_of_every_record(committed: Path, git: Run) -> None:
    make(committed, "x.dvcx", data=b"second")
    make(committed, "plain.txt", "sub/inner/.dvcx/config.toml", "sub/inner/z.dvcx", data=b"second")
    os.symlink("x.dvcx", committed / "link.dvcx")
    git("add", ".")
    git("commit", "-qm", "second")
    make(committed, "x.dvcx", data=b"staged")
    git("add", ".")
    make(committed, "x.dvcx", data=b"neither staged nor committed")
    assert blobs(committed) == {
        **{path: {"{}"} for path in RECORDS},
        "x.dvcx": {"{}", "second", "staged"},
        "sub/inner/.dvcx/config.toml": {"second"},
        "sub/inner/z.dvcx": {"second"},
    }
    assert blobs(committed / "sub") == blobs(committed), "the whole repository, wherever the project lies"


def test_nothing_yet(repo: Path) -> None:
    assert blobs(repo) == {}
    make(repo, "a.dvcx")
    opened_git = opened(repo)
    assert g.worktrees(opened_git) == [str(repo)] and not g.is_shallow(opened_git)


def test_each_blob_once(committed: Path, git: Run) -> None:
    for number in range(30):
        make(committed, "x.dvcx", data=b"%d" % (number % 3))
        git("add", ".")
        git("commit", "-qm", str(number), "--allow-empty")
    assert len(g.record_blobs(opened(committed))) == 4


def test_odd_names_of_records(repo: Path, git: Run) -> None:
    odd = ["a\nb.dvcx", "é.dvcx", "t\tab.dvcx", '"quoted".dvcx', "-dash.dvcx", ":x.dvcx"]
    make(repo, *odd)
    git("add", ".")
    git("commit", "-qm", "odd")
    assert set(blobs(repo)) == set(odd)


def test_replaced_commits_hide_nothing(committed: Path, git: Run) -> None:
    first = git("rev-parse", "HEAD").strip()
    make(committed, "x.dvcx", data=b"second")
    git("commit", "-qam", "second")
    git("checkout", "-q", "--orphan", "other", first)
    make(committed, "x.dvcx", data=b"other")
    git("commit", "-qam", "other")
    other = git("rev-parse", "HEAD").strip()
    git("checkout", "-q", "main")
    git("branch", "-qD", "other")
    git("replace", "main", other)
    assert blobs(committed)["x.dvcx"] == {"{}", "second", "other"}


@pytest.mark.parametrize("hurt", ["tree", "commit", "ref", "blob"])
def test_what_git_lacks_is_an_error(committed: Path, git: Run, hurt: str) -> None:
    make(committed, "x.dvcx", data=b"second")
    git("commit", "-qam", "second")
    if hurt == "ref":
        (committed / ".git/refs/heads/broken").write_text("1" * 40 + "\n")
    else:
        name = git("rev-parse", {"tree": "HEAD~1^{tree}", "commit": "HEAD~1", "blob": "HEAD~1:x.dvcx"}[hurt]).strip()
        (committed / ".git/objects" / name[:2] / name[2:]).unlink()
    with pytest.raises((IntegrityError, NotFound)) as caught:
        blobs(committed)
    assert caught.value.hint


def test_a_shallow_clone_knows_what_it_is(committed: Path, git: Run, tmp_path_factory: pytest.TempPathFactory) -> None:
    make(committed, "x.dvcx", data=b"second")
    git("commit", "-qam", "second")
    target = tmp_path_factory.mktemp("clones") / "shallow"
    git("clone", "-q", "--depth=1", f"file://{committed}", str(target))
    assert g.is_shallow(opened(target))
    assert blobs(target)["x.dvcx"] == {"second"}


def test_no_code_of_the_repository_runs(committed: Path, git: Run) -> None:
    canary = committed / "ran"
    for key in ("core.fsmonitor", "core.pager", "diff.external", "core.sshCommand", "gpg.program"):
        git("config", key, f"touch {canary}; false")
    git("config", "log.showSignature", "true")
    (committed / ".gitattributes").write_text("* diff=evil\n")
    git("config", "diff.evil.textconv", f"touch {canary}; cat")
    git("config", "diff.evil.command", f"touch {canary}; true")
    assert set(blobs(committed)) == set(RECORDS)
    assert not canary.exists()


def test_versions_of_records_in_history(committed: Path, git: Run) -> None:
    """Every version of every record that a branch, a tag or the stash reaches, each once; which refs hold one now."""
    make(committed, "x.dvcx", data=b'{"v": 2}')
    make(committed, "odd\tname.dvcx", "-dash.dvcx", "x.csv")
    git("add", ".")
    git("commit", "-qm", "second")
    git("tag", "v2")
    git("checkout", "-qb", "side", "HEAD~1")
    make(committed, "sub/y.dvcx", data=b'{"side": 1}')
    git("commit", "-qam", "side")
    git("checkout", "-q", "main")
    # The merge throws the side's version away; history still knows it.
    git("merge", "-q", "-s", "ours", "--no-edit", "side")
    git("branch", "-D", "side")
    make(committed, "x.dvcx", data=b'{"stashed": 1}')
    git("stash")
    found = opened(committed)
    versions = g.history(found, 100)
    read = {(version.path, data) for version, data in g.read_versions(found, versions)}
    assert read >= {
        *(("x.dvcx", data) for data in (b"{}", b'{"v": 2}', b'{"stashed": 1}')),
        *(("sub/y.dvcx", data) for data in (b"{}", b'{"side": 1}')),
        *((name, b"{}") for name in ("sub/dvcx.lock", "odd\tname.dvcx", "-dash.dvcx")),
    }
    assert len(set(versions)) == len(versions) and not any(version.path in ("x.csv", "sub/dvcx.yaml") for version in versions)
    now = {(version.path, tuple(sorted(refs))) for version, refs in g.refs_with(found, versions, 10).items()}
    assert ("x.dvcx", ("main", "v2")) in now and ("-dash.dvcx", ("main", "v2")) in now
    assert len(g.history(found, 1)) < len(versions)
    below = opened(committed / "sub")
    paths = {version.path for version in g.history(below, 100)}
    assert paths == {"y.dvcx", "dvcx.lock"}
    assert {path for version, _ in g.read_versions(below, g.history(below, 100)) for path in [version.path]} == paths
    assert g.refs_with(below, g.history(below, 100), 10)


def test_history_of_a_repository_without_a_commit(repo: Path) -> None:
    found = opened(repo)
    assert g.history(found, 10) == [] and g.refs_with(found, [], 10) == {}


def test_a_version_that_is_too_large_is_left_out(committed: Path, git: Run) -> None:
    make(committed, "x.dvcx", data=b"x" * (MAX_POINTER + 1))
    git("commit", "-qam", "huge")
    found = opened(committed)
    read = [data for version, data in g.read_versions(found, g.history(found, 10)) if version.path == "x.dvcx"]
    assert read == [b"{}"]
