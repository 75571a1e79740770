"""Project: where it is and how it is set up. It has no verbs; it builds the tools the verbs use."""

from __future__ import annotations

import contextlib
import os
import posixpath
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dvcx.core.config import Config
from dvcx.core.paths import check_path
from dvcx.errors import Busy, DiskRefused, DvcxError, NoProject, NotFound, UnsafeInput, UsageError, disk_refused, display
from dvcx.events import Emit, Noted, Warned
from dvcx.io import configfile, git, lock
from dvcx.io.files import atomic_write, private_directory
from dvcx.io.git import Git, open_git

if TYPE_CHECKING:
    from dvcx.io.statindex import StatIndex
    from dvcx.io.store.backend import Backend
    from dvcx.io.store.store import Store
    from dvcx.io.store.writer import Writer
    from dvcx.io.workspace import Rules

MARK = ".dvcx"
MAX_IGNORE = 1 << 20
REAP_AFTER = 60.0
REAP_REMOTE_EVERY = 3600.0
STORE_DIRECTORIES = ("objects", "packs", "index", "actions", "quarantine", "trash", "roots", "fresh", "partial")


@dataclass(frozen=True, slots=True)
class Project:
    """A project: its absolute real `root`, merged `config`, absolute state and cache directories, its git repository.

    `warnings` are about the configuration, to be shown once.
    """

    root: str
    config: Config
    state_dir: str
    cache_dir: str
    git: Git | None
    warnings: tuple[str, ...] = ()

    @property
    def algorithm(self) -> str:
        """The algorithm of the project's ids."""
        return str(self.config.get("core.hash"))

    @property
    def staging_dir(self) -> str:
        """Where files wait before they are renamed into the workspace."""
        return f"{self.root}/{MARK}/tmp"

    @property
    def jobs(self) -> int:
        """Threads for transfer."""
        return int(self.config.get("core.jobs") or 0) or min(16, max(4, 2 * (os.cpu_count() or 1)))

    @property
    def fsync(self) -> str:
        """How hard files are pushed to the disk: full, batch or none."""
        return str(self.config.get("core.fsync"))

    @property
    def links(self) -> tuple[str, ...]:
        """How files are placed, first that works."""
        return tuple(self.config.get("cache.link"))

    def relpath(self, cwd: str, argument: str) -> str:
        """A path the user typed in directory `cwd`, as a project path; "" is the root. `..` and links in `cwd` are resolved.

        Raises `UnsafeInput` for a path outside the project or one the path rule refuses.
        """
        if not argument:
            raise UsageError("a path is empty", "name a file or directory")
        joined = argument if os.path.isabs(argument) else os.path.join(os.path.realpath(cwd), argument)
        path = posixpath.normpath(joined)
        for root in (self.root, os.path.realpath(self.root)):
            if path == root:
                return ""
            if path.startswith(root + "/"):
                return check_path(path[len(root) + 1 :], "argument")
        real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
        if real.startswith(self.root + "/"):
            return check_path(real[len(self.root) + 1 :], "argument")
        raise UnsafeInput(
            f"{display(argument)}: it is outside the project {display(self.root)}",
            "copy or move it into the project, then add it",
        )

    # Tools

    @contextlib.contextmanager
    def lock(self, command: str, emit: Emit) -> Iterator[None]:
        """Hold the project while records and workspace change. Raises `Busy` naming the holder."""
        with self._hold(f"{self.state_dir}/lock", command, emit):
            yield

    @contextlib.contextmanager
    def _hold(self, path: str, command: str, emit: Emit, *, shared: bool = False, mode: int = 0) -> Iterator[None]:
        timeout = float(self.config.get("core.lock_timeout"))
        tell = lambda text: emit(Noted(text))  # noqa: E731
        with lock.hold(path, command=command, timeout=timeout, shared=shared, waiting=tell, mode=mode):
            yield

    @contextlib.contextmanager
    def cache_writer_lock(self, command: str, emit: Emit, *, reap: bool = True) -> Iterator[None]:
        """Hold the cache against its collector; writers and readers do not exclude one another.

        Who comes while nobody else writes takes away what a killed writer left, unless `reap` is off. A store that was opened
        before this is to be synced again: what a collection moved meanwhile is not there any more (a `Writer` does so).
        """
        path = f"{self.cache_dir}/lock"
        if lock.is_held(path):
            yield
            return
        self._make_cache()
        if reap:
            self._reap_cache(path, command)
        with self._hold(path, command, emit, shared=True, mode=self._lock_mode):
            yield

    def _reap_cache(self, path: str, command: str) -> None:
        with contextlib.suppress(Busy), lock.hold(path, command=command, timeout=0, mode=self._lock_mode):
            from dvcx.io.store.local import LocalBackend

            backend = LocalBackend(self.cache_dir)
            backend.reap(0, only=("objects", "packs", "index"))
            # store.json is written before this lock is taken, results of stages without it.
            backend.reap(REAP_AFTER, only=("", *_folders(self.cache_dir, "actions"), *_folders(self.cache_dir, "requests")))

    @contextlib.contextmanager
    def cache_reader_lock(self, command: str, emit: Emit) -> Iterator[None]:
        """Hold the cache against its collector while much is read from it. Where no lock can be made, nobody collects either."""
        if not os.path.isdir(self.cache_dir):
            yield
            return
        try:
            stack = contextlib.ExitStack()
            stack.enter_context(self._hold(f"{self.cache_dir}/lock", command, emit, shared=True, mode=self._lock_mode))
        except (DiskRefused, NotFound):
            yield
            return
        with stack:
            yield

    @contextlib.contextmanager
    def cache_collector_lock(self, command: str, emit: Emit) -> Iterator[None]:
        """Hold the cache alone: nobody writes to it or counts on what is in it meanwhile."""
        self._make_cache()
        with self._hold(f"{self.cache_dir}/lock", command, emit, mode=self._lock_mode):
            yield

    @property
    def _lock_mode(self) -> int:
        return 0o664 if self.config.get("cache.shared") else 0

    @property
    def own_cache(self) -> bool:
        """Whether the cache lies in this project. Another one may use it still."""
        return self.cache_dir == f"{self.root}/{MARK}/cache"

    def stat_index(self, emit: Emit, *, shared: bool = False) -> StatIndex:
        """The stat index of the workspace. `shared`: several threads may use it."""
        from dvcx.io.statindex import SharedIndex, StatIndex

        self._make_state()
        return (SharedIndex if shared else StatIndex)(f"{self.state_dir}/statindex.sqlite", _warn(emit))

    def cache(self, emit: Emit, *, write: bool = False) -> Store:
        """The project's cache. `write` prepares it for new objects."""
        from dvcx.io.store.local import LocalBackend
        from dvcx.io.store.store import create_store, open_store

        self._make_state()
        if write:
            self._make_cache()
        self._check_cache()
        backend = LocalBackend(self.cache_dir, fsync=self.fsync, shared=bool(self.config.get("cache.shared")))
        warn = _warn(emit)
        store = open_store(backend, self.state_dir, algorithm=self.algorithm, label="the cache", is_cache=True, warn=warn)
        if write:
            create_store(store, self.state_dir, warn)
            if not self.own_cache:
                from dvcx.io import roots

                roots.register(self.cache_dir, self.root, shared=backend.shared, git=self.git is not None)
        return store

    def writer(self, cache: Store, *, advanced: Callable[[int], None] | None = None) -> Writer:
        """What puts new objects into the project's cache, as its settings say. `advanced` hears of the bytes of large ones."""
        from dvcx.io.store.writer import Writer

        packing = self.config.get("cache.pack") != "never"
        return Writer(cache, "", packing=packing, fsync=self.fsync, advanced=advanced)

    def remote_name(self, name: str = "") -> str:
        """`name`, or the default remote's. Raises `NotFound` or `UsageError` when there is none."""
        chosen = name or str(self.config.get("core.remote") or "")
        known = self.config.remotes()
        if not chosen and len(known) == 1:
            chosen = known[0]
        if not chosen:
            raise UsageError(
                "no default remote is set" if known else "this project has no remote",
                f"dvcx remote default {known[0]}" if known else "dvcx remote add -d origin s3://BUCKET/PREFIX (or a directory)",
            )
        if chosen not in known:
            from dvcx.core.spelling import did_you_mean

            raise NotFound(
                f"no remote is called '{display(chosen)}'", did_you_mean(chosen, known) or "dvcx remote list shows them"
            )
        return chosen

    def remote(self, name: str, emit: Emit, *, write: bool = False, patience: float = 0.0) -> Store:
        """The store of a remote ("" is the default one). `write` prepares it for new objects.

        `patience`: seconds without progress after which it fails, where that is less than its timeout.
        """
        from dvcx.io.store.store import create_store, open_store

        self._make_state()
        name = self.remote_name(name)
        backend = self.remote_backend(name, emit, patience=patience)
        warn = _warn(emit)
        label = f"remote '{name}'"
        try:
            store = open_store(backend, self.state_dir, algorithm=self.algorithm, label=label, is_cache=False, warn=warn)
        except BaseException:
            backend.close()
            raise
        met = self._met(name)
        if write:
            if not store.id and os.path.exists(met):
                # Writing makes directories: one that is only not mounted is missed here.
                next(iter(backend.list("index")), None)
                warn(f"{label}: the store that was there is gone; a new one is begun")
            fresh = not store.id
            create_store(store, self.state_dir, warn)
            self._reap_remote(backend, f"{met}-reaped", label, emit, fresh=fresh)
        if store.id:
            with contextlib.suppress(DvcxError):
                atomic_write(met, store.id.encode(), mode=0o600, fsync=False)
        return store

    def _reap_remote(self, backend: Backend, stamp: str, label: str, emit: Emit, *, fresh: bool) -> None:
        """Remove what killed pushes left on a remote; not in a `fresh` one, nor within an hour of the last time."""
        with contextlib.suppress(OSError):
            if 0 <= time.time() - os.stat(stamp).st_mtime < REAP_REMOTE_EVERY:
                return
        with contextlib.suppress(DvcxError):
            atomic_write(stamp, b"", mode=0o600, fsync=False)
        if fresh:
            return
        try:
            count = backend.reap()
        except DvcxError as error:
            emit(Noted(f"{label}: what killed pushes may have left there was not looked for: {error.message}"))
            return
        if count:
            emit(Noted(f"{label}: removed {count} unfinished upload{'s' if count > 1 else ''} of killed pushes"))

    def cache_backend(self) -> Backend:
        """The directory of the cache, as it is."""
        from dvcx.io.store.local import LocalBackend

        self._check_cache()
        return LocalBackend(self.cache_dir, fsync=self.fsync)

    def met_store(self, name: str) -> str:
        """The id of the store that was last found at a remote, "" when none is remembered."""
        try:
            with open(self._met(name), encoding="ascii") as file:
                found = file.read(64)
        except (OSError, ValueError):
            return ""
        return found if len(found) == 32 and set(found) <= set("0123456789abcdef") else ""

    def _met(self, name: str) -> str:
        from dvcx.io.hashing import seal

        remote = self.config.remote(name)
        url = f"{remote.get('endpoint', '')} {remote['url']}".strip()  # two services may have buckets of one name

        return f"{self.state_dir}/remote-{seal(url.encode()).hex()[:16]}"

    def remote_backend(self, name: str, emit: Emit, *, patience: float = 0.0) -> Backend:
        """The bytes of a remote under their names. What fails and may pass is tried again, which `emit` hears of."""
        from dvcx.io.store.backend import timeout_of
        from dvcx.io.store.retry import open_retrying
        from dvcx.io.store.schemes import open_backend

        options = {**self.config.remote(name), "name": name}
        url = options.pop("url")
        timeout = timeout_of({key: str(value) for key, value in options.items()})
        if patience and patience < timeout:
            timeout = patience
            options["timeout"] = f"{timeout:g}"
        return open_retrying(
            lambda: open_backend(url, options, base=self.root), timeout=timeout, label=f"remote '{name}'", warn=_warn(emit)
        )

    def compresses(self, name: str) -> bool:
        """Whether packs sent to a remote are compressed: by its setting, else unless it is a directory."""
        options = self.config.remote(self.remote_name(name))
        chosen = options.get("compression")
        return chosen == "zstd" if chosen else "://" in options["url"] and not options["url"].startswith("file://")

    def rules(self) -> Rules:
        """What the walk leaves out: the project's .dvcxignore."""
        from dvcx.io.files import read_record
        from dvcx.io.workspace import Rules

        objects = f"{self.cache_dir}/objects"
        data = read_record(self.root, ".dvcxignore", MAX_IGNORE)
        if not data or all(not line.strip() or line.startswith(b"#") for line in data.splitlines()):
            return Rules(None, "", objects)
        import pathspec

        try:
            spec = pathspec.GitIgnoreSpec.from_lines(data.decode("utf-8").splitlines())
        except (UnicodeDecodeError, ValueError) as error:
            raise UsageError(f".dvcxignore: it cannot be read ({error})", "it has the syntax of a .gitignore") from None
        from dvcx.io.hashing import seal

        def ignored(path: str, is_directory: bool) -> bool:
            return bool(spec.match_file(f"{path}/" if is_directory else path))

        return Rules(ignored, seal(data).hex(), objects)

    def _make_state(self) -> None:
        try:
            private_directory(self.state_dir)
        except DiskRefused:
            # Questions are answered on a read-only disk too; what needs the directory will say so itself.
            if not os.access(os.path.dirname(self.state_dir), os.W_OK):
                return
            raise

    def _make_cache(self) -> None:
        if os.path.isdir(self.cache_dir):
            return
        shared = bool(self.config.get("cache.shared"))
        try:
            os.makedirs(self.cache_dir, exist_ok=True)
            os.chmod(self.cache_dir, 0o2775 if shared else 0o755)
        except OSError as error:
            raise disk_refused(error, "making the cache", self.cache_dir) from None

    def _check_cache(self) -> None:
        try:
            mode = os.stat(self.cache_dir).st_mode
        except OSError:
            return
        for name in STORE_DIRECTORIES:
            if os.path.islink(f"{self.cache_dir}/{name}"):
                raise UnsafeInput(
                    f"{display(self.cache_dir)}/{name}: it is a symbolic link, and what is written there would land elsewhere",
                    "remove the link; to keep the whole cache elsewhere: dvcx config set --local cache.dir DIR",
                )
        if mode & 0o022 and not self.config.get("cache.shared"):
            raise UnsafeInput(
                f"{display(self.cache_dir)}: other users may write into this cache",
                "chmod go-w it, or say that this is meant: dvcx config set cache.shared true",
            )


def open_project(start: str = ".", *, environ: Mapping[str, str] | None = None) -> Project:
    """The project that `start` lies in, found by walking up. Settings come from its files, the user's and `environ`.

    Raises `NoProject`, and `UnsafeInput` for one that belongs to another user.
    """
    environ = os.environ if environ is None else environ
    root = find_root(start)
    _check_owner(root, environ)
    repository = open_git(root)
    _check_planted(root, repository)
    config, warnings = configfile.load(root, environ, _user_file(environ))
    state = f"{root}/{MARK}/state"
    cache = os.path.join(root, os.path.expanduser(str(config.get("cache.dir"))))
    return Project(root, config, state, os.path.normpath(cache), repository, warnings)


def bare_project(
    directory: str, cache_dir: str, url: str, *, algorithm: str, environ: Mapping[str, str] | None = None
) -> Project:
    """What works on a cache and a remote without being in a project: its private files lie in `directory`.

    The remote is called exec; its options come from variables such as DVCX_REMOTE_EXEC_ENDPOINT.
    """
    from dvcx.core import config

    environ = os.environ if environ is None else environ
    variables, unknown = config.from_environment(environ, ["exec"])
    fixed = ("core.remote", "core.hash", "cache.dir", "remote.exec.url")
    chosen = {key: value for key, value in variables.items() if key not in fixed and not _other_remote(key)}
    given = {"remote.exec.url": url, "core.remote": "exec"} if url else {}
    layers = [config.Layer("the command line", config.USER, given), config.Layer("environment", config.ENVIRONMENT, chosen)]
    merged, warnings = config.merge(layers)
    settings = Config({**merged.values, "core.hash": algorithm}, merged.sources)
    private_directory(directory)
    return Project(directory, settings, f"{directory}/state", os.path.normpath(cache_dir), None, warnings + unknown)


def _other_remote(key: str) -> bool:
    return key.startswith("remote.") and not key.startswith("remote.exec.")


def find_root(start: str) -> str:
    """The nearest directory from `start` upwards that holds `.dvcx/config.toml`. Raises `NoProject`."""
    here = os.path.realpath(start)
    while True:
        if os.path.isfile(f"{here}/{MARK}/config.toml") and not os.path.islink(f"{here}/{MARK}"):
            return here
        above = os.path.dirname(here)
        if above == here:
            raise NoProject(f"{display(os.path.realpath(start))} is not in a dvcx project", "make one here: dvcx init")
        here = above


def _open_to_others(path: str) -> bool:
    try:
        return bool(os.lstat(path).st_mode & 0o077)
    except OSError:
        return False


def command_environment() -> dict[str, str]:
    """The environment a stage's command is given: ours."""
    return dict(os.environ)


def _check_owner(root: str, environ: Mapping[str, str]) -> None:
    owner, me = os.stat(f"{root}/{MARK}").st_uid, os.geteuid()
    if owner == me or (me == 0 and environ.get("SUDO_UID") == str(owner)):
        return
    trusted = environ.get("DVCX_SAFE_DIRECTORY", "")
    if trusted in ("*", root):
        return
    raise UnsafeInput(
        f"the project {display(root)} belongs to another user (uid {owner})",
        f"if you trust it: export DVCX_SAFE_DIRECTORY={display(root)}",
    )


def _check_planted(root: str, repository: Git | None) -> None:
    """What git brings may not stand where private settings and state belong: a clone must not redirect them."""
    suspects = [f"{MARK}/{name}" for name in ("cache", "state", "tmp") if os.path.islink(f"{root}/{MARK}/{name}")]
    # dvcx makes these two for their owner alone; git, which knows no such mode, did not make them here.
    suspects += [f"{MARK}/{name}" for name in ("state", "tmp") if _open_to_others(f"{root}/{MARK}/{name}")]
    if os.path.lexists(f"{root}/{MARK}/config.local.toml"):
        suspects.append(f"{MARK}/config.local.toml")
    planted = git.tracked(repository, suspects) if repository is not None and suspects else set()
    if planted:
        raise UnsafeInput(
            f"{min(planted)} is committed to git: a repository may not bring private settings or state",
            f"git rm --cached {min(planted)}, and find out who committed it",
        )


def _user_file(environ: Mapping[str, str]) -> str:
    # platformdirs costs 15 ms to import; on Linux its answer is this line.
    import sys

    system: str = sys.platform
    if system == "linux":
        base = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME") or os.path.expanduser("~"), ".config")
        return os.path.join(base, "dvcx", "config.toml") if os.path.isabs(base) else ""
    import platformdirs

    return os.path.join(platformdirs.user_config_dir("dvcx", appauthor=False), "config.toml")


def _warn(emit: Emit) -> Callable[[str], None]:
    return lambda message: emit(Warned(message))


def _folders(root: str, name: str) -> list[str]:
    """The directories in the directory `name` below `root`, from there; none when there is no such directory."""
    try:
        return [f"{name}/{inner}" for inner in os.listdir(f"{root}/{name}") if len(inner) == 2]
    except OSError:
        return []
