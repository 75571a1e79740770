"""Git, through the git program: plumbing only, NUL-separated, one process per question. Also the lines in .gitignore.

No code configured in a repository runs on a question: no hooks, no file system monitor, no transport.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType
from typing import IO, NamedTuple

from dvcx.core.config import has_password
from dvcx.core.records import MAX_LOCK, MAX_POINTER, POINTER_SUFFIX, is_record
from dvcx.errors import (
    Busy,
    DiskRefused,
    DvcxError,
    IntegrityError,
    NotFound,
    UnsafeInput,
    UsageError,
    amount,
    disk_refused,
    display,
)
from dvcx.io.files import read_record, remove_record, write_record

MAX_IGNORE_FILE = 1 << 20

_MARKER = ".dvcx/config.toml"
_MOST_FILES = 1_000_000
_DEEPEST = 500
_KEPT_TREES = 10_000
_RECORDS_ANYWHERE = tuple(
    f":(top){pattern}" for pattern in ("*.dvcx", "dvcx.yaml", "*/dvcx.yaml", "dvcx.lock", "*/dvcx.lock", _MARKER, f"*/{_MARKER}")
)
_IN_HAND = (
    *("ORIG_HEAD", "MERGE_HEAD", "CHERRY_PICK_HEAD", "REVERT_HEAD", "REBASE_HEAD", "FETCH_HEAD"),
    *("rebase-merge/orig-head", "rebase-merge/onto", "rebase-apply/orig-head", "rebase-apply/onto"),
)

_SAFE = ("-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "-c", "core.quotePath=off")
# The records that name objects.
_RECORDS = ("*.dvcx", "dvcx.lock", "*/dvcx.lock")
_PROTOCOLS = "file:https:ssh:git"

# What git sets for its hooks and aliases, or what would turn a question around; a project is found from
# its directory alone.
_SCRUBBED = frozenset(
    (
        "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_ATTR_SOURCE", "GIT_CEILING_DIRECTORIES", "GIT_COMMON_DIR",
        "GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_DIR", "GIT_EXTERNAL_DIFF", "GIT_GLOB_PATHSPECS",
        "GIT_GRAFT_FILE", "GIT_ICASE_PATHSPECS", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE",
        "GIT_LITERAL_PATHSPECS", "GIT_NAMESPACE", "GIT_NOGLOB_PATHSPECS", "GIT_NO_REPLACE_OBJECTS",
        "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_QUARANTINE_PATH", "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE",
        "GIT_TEMPLATE_DIR", "GIT_WORK_TREE", "LANGUAGE",
    )
)


class Git(NamedTuple):
    """A repository as seen from a project: `root` of the project, `top` of the work tree, its own and the common git directory.

    All four absolute. Of a bare clone (`clone_bare`) all four are its directory.
    """

    root: str
    top: str
    git_dir: str
    common_dir: str

    @property
    def prefix(self) -> str:
        """Where the project lies in the repository: "" or "sub/dir"."""
        return self.root[len(self.top) :].strip("/")


def open_git(root: str) -> Git | None:
    """The repository the directory `root` (absolute, real) is in, None when it is in none. Reads files; runs nothing.

    Raises `UsageError` when there is a repository and no git program.
    """
    here = root
    device = os.stat(root).st_dev
    while True:
        git_dir = _git_dir(here)
        if git_dir:
            _require_program()
            return Git(root, here, git_dir, _common_dir(git_dir))
        above = os.path.dirname(here)
        # Git itself stops at the border of a file system.
        if above == here or os.stat(above).st_dev != device:
            return None
        here = above


def record_files(git: Git) -> list[str]:
    """Paths below the project, relative to it, of all pointers, dvcx.yaml and dvcx.lock that are tracked or not ignored; sorted.

    A tracked one that was deleted is still named: the caller finds it absent. Those of a project nested in this one are
    left out. One process; git does not enter ignored directories, so data is not walked.
    """
    output = _run(
        git,
        *("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate", "--"),
        *(*_RECORDS, "dvcx.yaml", "*/dvcx.yaml", "*/.dvcx/config.toml"),
        literal=False,
    )
    return _own_records(os.fsdecode(output).split("\0"))


def record_files_at(git: Git, rev: str) -> list[str]:
    """Like `record_files`, at a revision: regular files only. `rev` as from `resolve`, or any name of a commit."""
    output = os.fsdecode(_run(git, "ls-tree", "-r", "-z", _commit(git, rev)))
    lines = (line.partition("\t") for line in output.split("\0"))
    return _own_records(path for facts, _, path in lines if facts.startswith("100"))


def read_at(git: Git, rev: str, paths: Sequence[str]) -> dict[str, bytes]:
    """The bytes of files at a revision by path (relative to the project); one that is not there is left out. One process.

    Raises `UnsafeInput` for a pointer over 64 KiB and another file over 64 MiB.
    """
    if not paths:
        return {}
    commit = _commit(git, rev)
    if any("\n" in path for path in paths):
        names = _blobs(git, commit, paths)
    else:
        base = f"{commit}:{git.prefix}/" if git.prefix else f"{commit}:"
        names = {path: base + path for path in paths}
    found = dict(_cat(git, commit, names))
    missing = [path for path in names if path not in found]
    if missing:
        # git says "missing" both of a path that is not there and of one whose bytes it lacks. Only the first is an answer.
        lacking = _blobs(git, commit, missing)
        if lacking:
            raise NotFound(
                f"{display(next(iter(lacking)))}: its bytes at {commit[:12]} are not here (a partial or damaged clone)",
                "get them: git fetch --refetch",
            )
    return found


class Version(NamedTuple):
    """One version of a record in history: its path in the project, the name of its blob, a commit that brought it."""

    path: str
    blob: str
    commit: str


def history(git: Git, commits: int) -> list[Version]:
    """Every version of every record that branches, tags and the stash reach, newest first, each once. Two processes.

    `commits` is how many of those that changed a record are looked at.
    """
    listed = _run(git, "rev-list", "--all", "--full-history", f"--max-count={commits}", "--", *_RECORDS, literal=False)
    found: dict[tuple[str, str], Version] = {}
    for commit, mode, blob, path in _changes(git, listed, "diff-tree", "--relative", paths=_RECORDS):
        if mode.startswith("100") and is_record(path):
            found.setdefault((path, blob), Version(path, blob, commit))
    return list(found.values())


def _changes(git: Git, commits: bytes, *words: str, paths: Sequence[str]) -> Iterator[tuple[str, str, str, str]]:
    """(commit, mode, blob, path) of what each of these commits made of files that match `paths`, against every parent.

    `words` are `diff-tree` and what belongs before and behind it; of a deleted file the mode is 000000.
    """
    if not commits:
        return
    options = ("--stdin", "-r", "-m", "--root", "--raw", "-z", "--no-renames")
    fields = iter(os.fsdecode(_run(git, *words, *options, "--", *paths, feed=commits, literal=False)).split("\0"))
    commit = ""
    for field in fields:
        if field.startswith(":"):
            _, mode, _, blob, _ = field.split(" ")
            yield commit, mode, blob, next(fields)
        else:
            commit = field or commit


def read_versions(git: Git, versions: Iterable[Version]) -> Iterator[tuple[Version, bytes]]:
    """The bytes of versions of records; those this clone lacks, or that are too large for a record, are left out."""
    by_name = {f"{version.blob}/{version.path}": version for version in versions}
    for name, data in _cat(git, "", {name: version.blob for name, version in by_name.items()}, whole=False):
        yield by_name[name], data


def refs_with(git: Git, versions: Sequence[Version], most: int) -> dict[Version, list[str]]:
    """The branches and tags, `most` of them asked, that hold these versions of records now."""
    output = _run(
        git, "for-each-ref", f"--count={most}", "--sort=-creatordate", "--format=%(refname:short)", "refs/heads", "refs/tags"
    )
    refs = [ref for ref in os.fsdecode(output).split("\n") if ref]
    prefix = f"{git.prefix}/" if git.prefix else ""
    asked = [(ref, version) for ref in refs for version in versions if "\n" not in version.path]
    if not asked:
        return {}
    feed = os.fsencode("".join(f"{ref}:{prefix}{version.path}\n" for ref, version in asked))
    answers = os.fsdecode(_run(git, "cat-file", "--batch-check=%(objectname)", feed=feed)).split("\n")
    found: dict[Version, list[str]] = {}
    for (ref, version), answer in zip(asked, answers, strict=False):
        if answer == version.blob:
            found.setdefault(version, []).append(ref)
    return found


def names_of(git: Git, kind: str) -> list[str]:
    """The short names of all references below `kind` (refs/heads, refs/tags), sorted by git."""
    output = os.fsdecode(_run(git, "for-each-ref", "--format=%(refname)", kind))
    return [ref[len(kind) + 1 :] for ref in output.split("\n") if ref]


def files_at(git: Git, commit: str, path: str) -> list[str]:
    """The regular files at and below `path` (relative to the project) in a commit, by their paths in the project."""
    output = os.fsdecode(_run(git, "ls-tree", "-r", "-z", commit, "--", path))
    lines = (line.partition("\t") for line in output.split("\0") if line)
    return [name for facts, _, name in lines if facts.startswith("100")]


def commits(git: Git, most: int = 0) -> list[str]:
    """Every commit that HEAD, a branch or a tag reaches, newest first; not more than `most`, if that is not 0. One process."""
    cut = [f"--max-count={most}"] if most else []
    # A repository without a commit has no HEAD: git says so with an error.
    output = _run(git, "rev-list", *cut, "--branches", "--remotes", "--tags", "HEAD", "--", accept=(0, 128))
    return output.decode("ascii", "replace").split()


class Snapshots:
    """The files of any number of commits, from one git process that answers name by name. A context manager; one thread.

    A directory that several commits share is read once, and so is a file, as long as what was read fits into 64 MiB.
    Raises `NotFound` for what a partial or damaged clone lacks.
    """

    def __init__(self, git: Git) -> None:
        self._git = git
        self._process: subprocess.Popen[bytes] | None = None
        self._errors: IO[bytes] | None = None
        self._trees: dict[str, dict[str, tuple[bytes, str]]] = {}
        self._tops: dict[str, str] = {}
        self._records: dict[str, tuple[str, ...]] = {}
        self._blobs: dict[str, bytes] = {}
        self._room = MAX_LOCK

    def records(self, commit: str) -> list[str]:
        """Like `record_files_at`."""
        top = self._top(commit)
        return _own_records(self._below(top, 0)) if top else []

    def blob(self, commit: str, path: str) -> str:
        """The name of the blob of the file at `path`, "" when there is no regular file."""
        mode, name = self._entry(commit, path)
        return name if mode.startswith(b"100") else ""

    def read(self, commit: str, path: str, limit: int) -> bytes | None:
        """The bytes of the file at `path`; None when there is none. Raises `UnsafeInput` for a link, and past `limit` bytes."""
        mode, name = self._entry(commit, path)
        if mode == b"120000":
            raise UnsafeInput(f"{display(path)}: it is a symbolic link at this revision", "name the file it leads to")
        if not mode.startswith(b"100"):
            return None
        if name not in self._blobs:
            data = self._object(name, path, limit)
            if len(data) > self._room:
                return data
            self._room -= len(data)
            self._blobs[name] = data
        data = self._blobs[name]
        if len(data) > limit:
            raise _too_large(path, limit)
        return data

    def files(self, commit: str, path: str) -> list[str]:
        """The regular files below the directory `path`, by their paths in the project; none when it is no directory."""
        mode, name = self._entry(commit, path)
        found: list[str] = []
        todo = [(path, name)] if mode == b"40000" else []
        while todo:
            here, tree = todo.pop()
            for child, (kind, inner) in self._tree(tree).items():
                if kind == b"40000":
                    todo.append((f"{here}/{child}", inner))
                elif kind.startswith(b"100"):
                    found.append(f"{here}/{child}")
            if len(found) > _MOST_FILES:
                raise UnsafeInput(f"{display(path)}: more than {_MOST_FILES:,} files", "name a directory with fewer")
        return found

    def _top(self, commit: str) -> str:
        """The tree of the project, "" when the commit has no such directory."""
        if commit not in self._tops:
            self._tops[commit] = self._find_top(commit)
        return self._tops[commit]

    def _find_top(self, commit: str) -> str:
        head = self._object(commit, commit, MAX_LOCK).partition(b"\n")[0]
        tree = head.removeprefix(b"tree ").decode("ascii", "replace")
        for part in self._git.prefix.split("/") if self._git.prefix else ():
            mode, tree = self._tree(tree).get(part, (b"", ""))
            if mode != b"40000":
                return ""
        return tree

    def _entry(self, commit: str, path: str) -> tuple[bytes, str]:
        mode, name = b"40000", self._top(commit)
        for part in path.split("/"):
            if mode != b"40000" or not name:
                return b"", ""
            mode, name = self._tree(name).get(part, (b"", ""))
        return mode, name

    def _below(self, tree: str, depth: int) -> tuple[str, ...]:
        """The records below a tree, and what marks nested projects, relative to it; not yet without theirs."""
        if depth > _DEEPEST:
            raise UnsafeInput(f"directories nested deeper than {_DEEPEST} in git", "look at it: git ls-tree -r HEAD")
        if tree not in self._records:
            found: list[str] = []
            for name, (mode, inner) in self._tree(tree).items():
                if mode == b"40000":
                    found += [f"{name}/{path}" for path in self._below(inner, depth + 1)]
                elif mode.startswith(b"100") and (is_record(name) or name == "config.toml"):
                    found.append(name)
            if len(found) > _MOST_FILES:
                raise UnsafeInput(f"more than {_MOST_FILES:,} records at one revision", "look at it: git ls-tree -r HEAD")
            self._records[tree] = tuple(found)
        return self._records[tree]

    def _tree(self, name: str) -> dict[str, tuple[bytes, str]]:
        """The entries of a tree: mode and object by name (https://git-scm.com/book/en/v2/Git-Internals-Git-Objects)."""
        if name not in self._trees:
            if len(self._trees) > _KEPT_TREES:
                self._trees.clear()
            data, width = self._object(name, name, MAX_LOCK), len(name) // 2
            entries, at = {}, 0
            while at < len(data):
                space = data.index(b" ", at)
                end = data.index(b"\0", space) + 1
                entries[os.fsdecode(data[space + 1 : end - 1])] = (data[at:space], data[end : end + width].hex())
                at = end + width
            self._trees[name] = entries
        return self._trees[name]

    def _object(self, name: str, label: str, limit: int) -> bytes:
        process = self._process or self._start()
        assert process.stdin is not None and process.stdout is not None
        try:
            process.stdin.write(f"{name}\n".encode("ascii"))
            process.stdin.flush()
        except BrokenPipeError:
            raise self._failed() from None
        header = process.stdout.readline()
        if header.endswith(b" missing\n"):
            raise NotFound(
                f"{display(label)}: its bytes are not here (a partial or damaged clone)", "get them: git fetch --refetch"
            )
        words = header.split()
        if len(words) != 3 or not words[2].isdigit():
            raise self._failed()
        size = int(words[2])
        if size > limit:
            _skip(process.stdout, size + 1)
            raise _too_large(label, limit)
        data = process.stdout.read(size + 1)
        if len(data) != size + 1:
            raise self._failed()
        return data[:-1]

    def _start(self) -> subprocess.Popen[bytes]:
        import tempfile

        self._errors = tempfile.TemporaryFile()  # noqa: SIM115
        command = _command(self._git, "cat-file", "--batch")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, env=_environment()
        )
        return self._process

    def _failed(self) -> DvcxError:
        assert self._errors is not None and self._process is not None
        self._process.wait()
        self._errors.seek(0)
        return _failure(self._git, "cat-file", self._errors.read(65536))

    def close(self) -> None:
        """End the process."""
        if self._process is not None and self._errors is not None:
            with self._process as process, contextlib.suppress(BrokenPipeError):
                process.kill()
            self._errors.close()
            self._process = None

    def __enter__(self) -> Snapshots:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def record_blobs(git: Git) -> dict[str, set[str]]:
    """Every version of every record that git still holds: paths (relative to `top`) by the name of the blob.

    Looked through are all branches, tags, remote-tracking refs and stashes, what reflogs and unfinished merges name, and the
    index, of all work trees; also records of other projects in the repository, and the `.dvcx/config.toml` that mark them.
    A commit or tree that is missing is an error. In a shallow clone only what is there is walked.
    """
    found: dict[str, set[str]] = {}
    commits = _run(git, "--no-replace-objects", "rev-list", "--all", "--reflog", "--stdin", feed=_unfinished(git), strict=True)
    for _, mode, blob, path in _changes(git, commits, "--no-replace-objects", "diff-tree", paths=_RECORDS_ANYWHERE):
        _note(found, mode, blob, path)
    for top in worktrees(git):
        tree = Git(top, top, _git_dir(top), git.common_dir)
        for line in os.fsdecode(_run(tree, "ls-files", "--stage", "-z", "--", *_RECORDS_ANYWHERE, literal=False)).split("\0"):
            facts, _, path = line.partition("\t")
            if path:
                _note(found, facts.split(" ")[0], facts.split(" ")[1], path)
    return found


def worktrees(git: Git) -> list[str]:
    """The top directories of all work trees of the repository. Raises `NotFound` for one that is not there."""
    tops: list[str] = []
    for block in os.fsdecode(_run(git, "worktree", "list", "--porcelain")).split("\n\n"):
        lines = block.strip("\n").split("\n")
        if not lines[0].startswith("worktree ") or "bare" in lines:
            continue
        top = lines[0][len("worktree ") :]
        if not tops and os.path.realpath(top) in (os.path.realpath(git.common_dir), os.path.realpath(git.top)):
            # Of a submodule, git names its git directory here.
            top = git.top
        if not _git_dir(top):
            raise NotFound(
                f"{display(top)}: this work tree of the repository is not there, and records in it may need data",
                f"mount it; or, when it is gone for good: git -C '{display(git.top)}' worktree prune",
            )
        tops.append(top)
    return tops


def is_shallow(git: Git) -> bool:
    """Whether the repository was cloned without the whole history."""
    return os.path.exists(f"{git.common_dir}/shallow")


def read_blobs(git: Git, names: Iterable[str]) -> Iterator[tuple[str, bytes]]:
    """The bytes of blobs by name, each read when it is asked for. One process.

    Raises `NotFound` for one that is not here, `UnsafeInput` for one over 64 MiB.
    """
    wanted = {name: name for name in names}
    for name, data in _batch(git, wanted, lambda name: MAX_LOCK, "--no-replace-objects"):
        if data is None:
            raise NotFound(
                f"git blob {name}: its bytes are not here (a partial or damaged clone)", "get them: git fetch --refetch"
            )
        yield name, data


def resolve(git: Git, rev: str) -> str:
    """The full name of the commit `rev` stands for. Raises `NotFound`."""
    if rev and not rev.startswith("-") and "\0" not in rev:
        found = _run(git, "rev-parse", "--verify", "--quiet", "--end-of-options", f"{rev}^{{commit}}", accept=(0, 1, 128))
        name = found.decode("ascii", "replace").strip()
        if _is_full_name(name):
            return name
        if rev == "HEAD":
            raise NotFound("no revision 'HEAD': this repository has no commit yet", "make the first one: git commit")
    raise NotFound(f"no revision '{display(rev)}'", "git log --oneline --all shows what there is; a shallow clone has few")


def add(git: Git, paths: Iterable[str]) -> None:
    """Stage files (`git add`), ignored ones too; a path that is gone is staged as removed, one git never knew is passed over.

    Raises `Busy` when another git holds the index for more than two seconds.
    """
    wanted = list(dict.fromkeys(paths))
    gone = [path for path in wanted if not os.path.lexists(os.path.join(git.root, path))]
    if gone:
        known = tracked(git, gone)
        wanted = [path for path in wanted if path not in gone or path in known]
    if not wanted:
        return
    _change_index(git, "add", "--force", paths=wanted)


def untrack(git: Git, paths: Iterable[str]) -> None:
    """Take files, and what is below directories, out of the index; in the work tree they stay. Unknown paths are passed over.

    Raises `Busy` when another git holds the index for more than two seconds.
    """
    wanted = list(dict.fromkeys(paths))
    if wanted:
        _change_index(git, "rm", "-r", "--cached", "--quiet", "--ignore-unmatch", "--force", paths=wanted)


def ignored(git: Git, paths: Iterable[str]) -> set[str]:
    """Which of `paths` the ignore rules match, whether or not git tracks them."""
    # check-ignore knows no literal pathspecs; "./" in front keeps a name like ":x" from being read as one.
    feed = os.fsencode("".join(f"./{path}\0" for path in paths))
    if not feed:
        return set()
    output = _run(git, "check-ignore", "--no-index", "--stdin", "-z", feed=feed, accept=(0, 1), literal=False)
    return {path[2:] for path in os.fsdecode(output).split("\0")} - {""}


def tracked(git: Git, paths: Iterable[str]) -> set[str]:
    """Which of `paths` are in the index, or have files in it below them."""
    wanted = set(paths)
    found: set[str] = set()
    for some in _chunks(sorted(wanted)):
        output = _run(git, "ls-files", "-z", "--cached", "--", *some)
        for path in os.fsdecode(output).split("\0"):
            while path and path not in found:
                if path in wanted:
                    found.add(path)
                path = path.rpartition("/")[0]
    return found


def ignore(root: str, path: str) -> str:
    """Have git ignore `path`: a line "/name" in the .gitignore beside it. The .gitignore's path if it changed, else ""."""
    return "".join(ignore_all(root, [path]))


def unignore(root: str, path: str) -> str:
    """Take the line that `ignore` wrote out again; a .gitignore left empty is removed. Its path if it changed, else ""."""
    return "".join(unignore_all(root, [path]))


def ignore_all(root: str, paths: Iterable[str]) -> list[str]:
    """`ignore` for many paths, each .gitignore written once; the paths of those that changed."""
    changed = []
    for file, lines in _by_ignore_file(paths).items():
        before = read_record(root, file, MAX_IGNORE_FILE)
        data = before or b""
        present = {line.rstrip(b"\r") for line in data.split(b"\n")}
        missing = [line for line in lines if line not in present]
        if missing:
            end = b"\r\n" if b"\r\n" in data else b"\n"
            if data and not data.endswith(b"\n"):
                data += end
            write_record(root, file, _with_lines(data, [line + end for line in missing]))
            changed.append(file)
    return changed


def _with_lines(data: bytes, more: list[bytes]) -> bytes:
    """The lines of a .gitignore and some more: sorted into those of our kind at its end, so that two branches seldom write at
    the same place. What stands before them, and what it means, stays as it is.
    """
    lines = data.splitlines(keepends=True)
    at = len(lines)
    while at and lines[at - 1].startswith(b"/") and (at == len(lines) or lines[at - 1] < lines[at]):
        at -= 1
    return b"".join(lines[:at] + sorted(lines[at:] + more))


def unignore_all(root: str, paths: Iterable[str]) -> list[str]:
    """`unignore` for many paths; the paths of the .gitignore files that changed or went."""
    changed = []
    for file, lines in _by_ignore_file(paths).items():
        before = read_record(root, file, MAX_IGNORE_FILE)
        if before is None:
            continue
        gone = set(lines)
        after = b"".join(line for line in before.splitlines(keepends=True) if line.rstrip(b"\r\n") not in gone)
        if after == before:
            continue
        if after.strip():
            write_record(root, file, after)
        else:
            remove_record(root, file)
        changed.append(file)
    return changed


def is_bare(path: str) -> bool:
    """Whether the directory `path` is a repository without a work tree."""
    return _is_git_dir(path)


def clone_bare(url: str, directory: str) -> Git:
    """A bare clone of `url` in `directory` (made with its parents; one that is there already is used as it is).

    No checkout, hooks, submodules or templates; only the protocols file, https, ssh and git. Appears whole or not at all.
    """
    _require_program()
    git = Git(directory, directory, directory, directory)
    if _is_git_dir(directory):
        return git
    if not url or url.startswith("-") or "\0" in url:
        raise UsageError(f"not the URL of a repository: '{display(url)}'", "give a path, or an https, ssh, file or git URL")
    parent = os.path.dirname(directory)
    if has_password(url):
        raise UsageError("the URL of the repository holds a password", "leave it out; git's credential helper supplies it")
    try:
        os.makedirs(parent, exist_ok=True)
    except OSError as error:
        raise disk_refused(error, "making the directory for a clone", parent) from None
    temporary = os.path.join(parent, f"tmp-dvcx-{os.urandom(8).hex()}")
    try:
        _run(
            Git("", "", "", ""),
            *("clone", "--bare", "--quiet", "--no-local", "--template=", "--no-recurse-submodules", "--", url, temporary),
            protocols=_PROTOCOLS,
        )
        try:
            os.rename(temporary, directory)
        except OSError:
            if not _is_git_dir(directory):
                raise IntegrityError(f"{display(directory)}: something else is there", "remove it, then try again") from None
    finally:
        if os.path.lexists(temporary):
            import shutil

            shutil.rmtree(temporary, ignore_errors=True)
    return git


def fetch(git: Git) -> None:
    """Bring the branches and tags of a bare clone up to date with where it came from."""
    _run(
        git,
        *("fetch", "--quiet", "--prune", "--force", "--no-recurse-submodules", "--no-write-fetch-head", "origin"),
        *("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"),
        protocols=_PROTOCOLS,
    )


def version() -> str:
    """The version of the git program, "" when there is none."""
    import shutil

    if shutil.which("git") is None:
        return ""
    words = _run(Git("", "", "", ""), "version").decode("utf-8", "replace").split()
    return words[2] if len(words) > 2 else ""


def _change_index(git: Git, *words: str, paths: Sequence[str]) -> None:
    names = os.fsencode("\0".join(paths))
    for pause in (0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 0.0):
        try:
            _run(git, *words, "--pathspec-from-file=-", "--pathspec-file-nul", feed=names)
            return
        except Busy:
            if not pause:
                raise
            import time

            time.sleep(pause)


def _git_dir(top: str) -> str:
    """The git directory of the work tree `top`, "" when it is none. `.git` may be a file that names it (worktree, submodule)."""
    dot = f"{top}/.git" if top != "/" else "/.git"
    if _is_git_dir(dot):
        return dot
    try:
        handle = os.open(dot, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return ""
    try:
        text = os.fsdecode(os.read(handle, 8192))
    except OSError:
        return ""
    finally:
        os.close(handle)
    if not text.startswith("gitdir: "):
        return ""
    return os.path.normpath(os.path.join(top, text[8:].rstrip("\r\n")))


def _is_git_dir(path: str) -> bool:
    return os.path.lexists(f"{path}/HEAD") and (os.path.isdir(f"{path}/objects") or os.path.isfile(f"{path}/commondir"))


def _common_dir(git_dir: str) -> str:
    try:
        handle = os.open(f"{git_dir}/commondir", os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    except OSError:
        return git_dir
    try:
        return os.path.normpath(os.path.join(git_dir, os.fsdecode(os.read(handle, 8192)).rstrip("\r\n")))
    finally:
        os.close(handle)


def _require_program() -> None:
    import shutil

    if shutil.which("git") is None:
        raise UsageError("this project is in a git repository, but there is no git program", "install git: https://git-scm.com")


def _own_records(paths: Iterable[str]) -> list[str]:
    found = set(paths)
    marker = "/.dvcx/config.toml"
    nested = tuple(path[: -len(marker)] + "/" for path in found if path.endswith(marker))
    return sorted(path for path in found if is_record(path) and not (nested and path.startswith(nested)))


def _commit(git: Git, rev: str) -> str:
    return rev if _is_full_name(rev) else resolve(git, rev)


def _blobs(git: Git, commit: str, paths: Sequence[str]) -> dict[str, str]:
    """Names of the blobs at those of `paths` that are files in a commit."""
    wanted = set(paths)
    output = os.fsdecode(_run(git, "ls-tree", "-r", "-z", commit))
    lines = (line.partition("\t") for line in output.split("\0") if line)
    return {path: facts.split(" ")[2] for facts, _, path in lines if path in wanted and " blob " in facts}


def _cat(git: Git, commit: str, names: dict[str, str], *, whole: bool = True) -> Iterator[tuple[str, bytes]]:
    """(path, bytes) of records by path. Without a `commit` none is asked for. Not `whole`: what is too large is passed over."""

    def limit(path: str) -> int:
        return MAX_POINTER if path.endswith(POINTER_SUFFIX) else MAX_LOCK

    asked = {"": f"{commit}^{{tree}}", **names} if commit else names
    for path, data in _batch(git, asked, limit, whole=whole):
        if not path and data is None:
            raise NotFound(f"no revision '{commit}'", "get it: git fetch --all; a shallow clone has few")
        if path and data is not None:
            yield path, data


def _batch(
    git: Git, names: dict[str, str], limit: Callable[[str], int], *options: str, whole: bool = True
) -> Iterator[tuple[str, bytes | None]]:
    """(label, bytes) of objects by label, in order; no bytes for what is missing, empty ones for what is no blob.

    `git cat-file --batch` is read answer by answer, so that nothing over its limit is ever held: it is an error, or passed over.
    """
    import tempfile

    # A file as its input: a pipe could fill up on both sides.
    with tempfile.TemporaryFile() as feed, tempfile.TemporaryFile() as errors:
        feed.write(os.fsencode("".join(f"{name}\n" for name in names.values())))
        feed.seek(0)
        command = _command(git, *options, "cat-file", "--batch")
        with subprocess.Popen(command, stdin=feed, stdout=subprocess.PIPE, stderr=errors, env=_environment()) as process:
            assert process.stdout is not None
            try:
                for label in names:
                    header = process.stdout.readline()
                    if header.endswith(b" missing\n"):
                        yield label, None
                        continue
                    try:
                        kind, size = header.split()[-2], int(header.split()[-1])
                    except (IndexError, ValueError):
                        process.wait()
                        errors.seek(0)
                        raise _failure(git, "cat-file", errors.read(65536)) from None
                    if kind == b"blob" and size > limit(label):
                        if not whole:
                            _skip(process.stdout, size + 1)
                            continue
                        raise UnsafeInput(
                            f"{display(label)}: larger than {limit(label)} bytes at this revision", "look at it: git log"
                        )
                    data = process.stdout.read(size + 1)
                    if len(data) != size + 1:
                        raise IntegrityError(f"{display(label)}: git gave {len(data)} of {size} bytes", "check it: git fsck")
                    if kind == b"blob":
                        yield label, data[:-1]
                    elif not label:
                        yield label, b""
            finally:
                process.stdout.close()
                process.kill()


def _too_large(path: str, limit: int) -> UnsafeInput:
    return UnsafeInput(f"{display(path)}: it is larger than {amount(limit)}", "keep less in it")


def _skip(stream: IO[bytes], count: int) -> None:
    while count > 0:
        data = stream.read(min(count, 1 << 20))
        if not data:
            return
        count -= len(data)


def _note(found: dict[str, set[str]], mode: str, name: str, path: str) -> None:
    if mode.startswith("100") and (is_record(path) or path.endswith(_MARKER)):
        found.setdefault(name, set()).add(path)


def _unfinished(git: Git) -> bytes:
    """Commits that merges, rebases and the like have in hand, in every work tree: one a line, those that exist."""
    directories = [git.common_dir]
    with contextlib.suppress(OSError):
        directories += [entry.path for entry in os.scandir(f"{git.common_dir}/worktrees") if entry.is_dir()]
    words: list[str] = []
    for directory in directories:
        for name in _IN_HAND:
            try:
                with open(f"{directory}/{name}", encoding="ascii", errors="replace") as file:
                    words += [line.split()[0] for line in file.read(1 << 20).splitlines() if line.split()]
            except OSError:
                continue
    asked = sorted({word for word in words if _is_full_name(word)})
    if not asked:
        return b""
    feed = "".join(f"{name}\n" for name in asked).encode()
    answers = _run(git, "cat-file", "--batch-check", feed=feed).decode("ascii", "replace")
    return "".join(f"{line.split()[0]}\n" for line in answers.splitlines() if " commit " in line).encode()


def _run(
    git: Git,
    *words: str,
    feed: bytes = b"",
    accept: tuple[int, ...] = (0,),
    literal: bool = True,
    protocols: str = "none",
    strict: bool = False,
) -> bytes:
    """What one git command prints. Any exit code outside `accept` raises; when `strict` also an error it only tells of."""
    command = _command(git, *words, literal=literal)
    environment = _environment(protocols)
    try:
        if feed:
            done = subprocess.run(command, input=feed, capture_output=True, env=environment, close_fds=False)
        else:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, close_fds=False)
    except FileNotFoundError:
        raise UsageError("there is no git program", "install git: https://git-scm.com") from None
    if done.returncode not in accept or (done.returncode == 128 and b"dubious ownership" in done.stderr):
        raise _failure(git, _verb(words), done.stderr)
    if strict and any(line.startswith((b"error:", b"fatal:", b"warning: ignoring")) for line in done.stderr.splitlines()):
        raise _failure(git, _verb(words), done.stderr)
    return done.stdout


def _verb(words: Sequence[str]) -> str:
    return next(word for word in words if not word.startswith("-"))


def _command(git: Git, *words: str, literal: bool = True) -> list[str]:
    # A bare clone is named outright, so that safe.bareRepository=explicit accepts it; a work tree is left to git to find,
    # so that its check of the owner takes place.
    if not git.root:
        place = []
    elif git.top == git.git_dir:
        place = [f"--git-dir={git.git_dir}"]
    else:
        place = ["-C", git.root]
    return ["git", *place, *_SAFE, *(["--literal-pathspecs"] if literal else []), *words]


def _environment(protocols: str = "none") -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key not in _SCRUBBED}
    # GIT_ALLOW_PROTOCOL=none and GIT_NO_LAZY_FETCH: a question never starts a transport (which a repository may configure).
    environment.update(LC_ALL="C", GIT_OPTIONAL_LOCKS="0", GIT_TERMINAL_PROMPT="0", GIT_ALLOW_PROTOCOL=protocols)
    if protocols == "none":
        environment["GIT_NO_LAZY_FETCH"] = "1"
    return environment


def _failure(git: Git, verb: str, stderr: bytes) -> DvcxError:
    """Git's words as one of ours. The table is in order: the first text found decides."""
    text = stderr.decode("utf-8", "surrogateescape")
    said = _without_passwords(display(_last_words(text)))
    where = display(git.root)
    if "dubious ownership" in text or "unsafe repository" in text:
        lines = [line.strip() for line in text.splitlines()]
        hint = next((line for line in lines if line.startswith("git config --global --add safe.directory")), "")
        return UnsafeInput(
            f"{where}: the git repository belongs to another user, and git refuses it",
            display(hint) or f"if you trust it: git config --global --add safe.directory {where}",
        )
    if "index.lock" in text and "File exists" in text:
        return Busy("another git command is changing the index", "wait for it; if none runs, remove .git/index.lock")
    if "beyond a symbolic link" in text:
        return UnsafeInput(f"a path leads through a symbolic link: {said}", "name the real path inside the project")
    if "in submodule" in text:
        return UsageError(f"a path is inside a git submodule: {said}", "run dvcx inside that submodule")
    if "not a git repository" in text or "must be run in a work tree" in text:
        return UsageError(f"{where}: git does not accept this as a work tree: {said}", "look: git status")
    for words, kind, hint in _FAILURES:
        if words in text:
            return kind(f"git {verb} in {where}: {said}", hint)
    if verb in ("clone", "fetch"):
        return NotFound(f"git {verb} failed: {said}", "check the URL and your access to it: git ls-remote URL")
    return IntegrityError(f"git {verb} failed in {where}: {said}", "look at the repository: git status; git fsck")


_FAILURES: tuple[tuple[str, type[DvcxError], str], ...] = (
    ("No space left on device", DiskRefused, "free some space, then run the command again"),
    ("Read-only file system", DiskRefused, "the file system is mounted read-only; mount it writable"),
    ("Permission denied (publickey", NotFound, "check your ssh key: ssh-add -l"),
    ("Permission denied", DiskRefused, "check the permissions and the owner (ls -l)"),
    ("promisor", NotFound, "this is a partial clone; get the rest: git fetch --refetch"),
    ("not a tree object", NotFound, "git log --oneline --all shows the revisions there are"),
    ("transport ", UsageError, "use a path, or an https, ssh, file or git URL"),
    ("sparse-checkout", UsageError, "widen it: git sparse-checkout add DIRECTORY"),
)


def _last_words(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(("fatal:", "error:"))]
    chosen = (fatal or lines or ["it gave no reason"])[0]
    return chosen.removeprefix("fatal: ").removeprefix("error: ")[:300]


def _without_passwords(text: str) -> str:
    import re

    return re.sub(r"://[^/\s'@]*@", "://***@", text)


def _chunks(paths: list[str]) -> Iterator[list[str]]:
    """`paths` in runs short enough for a command line."""
    some: list[str] = []
    size = 0
    for path in paths:
        some.append(path)
        size += len(path) * 4 + 16
        if size > 100_000:
            yield some
            some, size = [], 0
    if some:
        yield some


def _by_ignore_file(paths: Iterable[str]) -> dict[str, list[bytes]]:
    """The .gitignore beside each path, and the lines for it."""
    files: dict[str, list[bytes]] = {}
    for path in dict.fromkeys(paths):
        base, _, name = path.rpartition("/")
        files.setdefault(f"{base}/.gitignore" if base else ".gitignore", []).append(_ignore_line(name))
    return files


def _ignore_line(name: str) -> bytes:
    """The line that ignores exactly `name`. A newline cannot be written there; "?" matches it (gitignore(5))."""
    line = "".join("\\" + char if char in "\\*?[" else char for char in name).replace("\n", "?")
    if line.endswith(" "):
        line = line[:-1] + "\\ "
    return b"/" + os.fsencode(line)


def _is_full_name(text: str) -> bool:
    return len(text) in (40, 64) and all(char in "0123456789abcdef" for char in text)
