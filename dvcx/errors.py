"""Every expected failure: a message, a hint that can be pasted, an exit code. One class per exit code."""

from __future__ import annotations


class DvcxError(Exception):
    """A failure the user can repair.

    `message` says what and where, `hint` how to repair it. `exit_code` is the process's. Neither may hold a secret.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class AnswerIsNo(DvcxError):
    """The answer to the question is no: stale, differs, not in sync."""

    exit_code = 1


class UsageError(DvcxError):
    """The command cannot be understood or contradicts itself or the configuration."""

    exit_code = 2


class NoProject(DvcxError):
    """There is no project here."""

    exit_code = 3


class IntegrityError(DvcxError):
    """Bytes or a record are not what they should be."""

    exit_code = 4


class NotFound(DvcxError):
    """A path, stage, revision, remote or object that was asked for does not exist."""

    exit_code = 5


class RemoteFailed(DvcxError):
    """A remote could not be reached, refused, or answered nonsense.

    `transient`: the same may succeed when it is tried again. `after`: seconds to let pass before that, when the remote said so.
    `within`: seconds after which there is no use in trying again; 0 leaves that to the remote's timeout.
    `permission`: what the credentials lack, as the service calls it, when it denied access.
    """

    exit_code = 6

    def __init__(
        self,
        message: str,
        hint: str = "",
        *,
        transient: bool = False,
        after: float = 0.0,
        within: float = 0.0,
        permission: str = "",
    ) -> None:
        super().__init__(message, hint)
        self.transient = transient
        self.after = after
        self.within = within
        self.permission = permission


class Busy(DvcxError):
    """Another process holds what is needed."""

    exit_code = 7


class DiskRefused(DvcxError):
    """The disk said no: full, read-only, no permission, changed while reading."""

    exit_code = 8


class UnsafeInput(DvcxError):
    """Input that could reach outside its place is refused."""

    exit_code = 9


class StageFailed(DvcxError):
    """A stage's command failed, or did not keep what it declared."""

    exit_code = 10


class Conflict(DvcxError):
    """Two owners of one path, a cycle, a collision, unsaved work in the way."""

    exit_code = 11


def disk_refused(error: OSError, what: str, path: str) -> DvcxError:
    """`DiskRefused` in words for an `OSError` met while doing `what` at `path`; `NotFound` when the path is gone."""
    import errno

    hints = {
        errno.ENOSPC: "free some space (dvcx cache size shows the cache's share), then run the command again",
        errno.EDQUOT: "free some of your quota, then run the command again",
        errno.EROFS: "the file system is mounted read-only; mount it writable or move the project",
        errno.EACCES: "check the permissions and the owner (ls -l)",
        errno.EPERM: "check the owner and the attributes (lsattr shows an immutable file)",
        errno.EMFILE: "raise the limit of open files (ulimit -n 4096)",
        errno.EIO: "the disk reported an error; check it (dmesg), then run the command again",
        errno.ENAMETOOLONG: "shorten the name",
    }
    code = error.errno or 0
    reason = "no space left" if code == errno.ENOSPC else (error.strerror or str(error))
    if code in (errno.ENOENT, errno.ENOTDIR):
        return NotFound(f"{display(path)}: {reason} while {what}", "it vanished; run the command again")
    return DiskRefused(f"{display(path)}: {reason} while {what}", hints.get(code, "repair the cause, then run it again"))


def amount(count: int) -> str:
    """Bytes for people: 217 B, 1.2 KiB, 34 MiB."""
    value = float(count)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if abs(value) < 1023.5 or unit == "PiB":
            return f"{count} B" if unit == "B" else f"{value:.1f} {unit}" if abs(value) < 99.95 else f"{value:.0f} {unit}"
        value /= 1024
    raise AssertionError("unreachable")


def width_of(text: str) -> int:
    """The columns that printable `text` takes on a terminal: two for wide characters, none for what is put over another."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(char) else 2 if east_asian_width(char) in "WF" else 1 for char in text)


def display(text: str) -> str:
    """`text` safe to print on one line: control characters, escapes and undecodable bytes written as escapes."""
    if text.isprintable():
        return text
    out = []
    for char in text:
        if char.isprintable():
            out.append(char)
        elif 0xDC80 <= ord(char) <= 0xDCFF:
            out.append(f"\\x{ord(char) - 0xDC00:02x}")
        else:
            out.append(char.encode("unicode_escape", "backslashreplace").decode("ascii"))
    return "".join(out)
