"""What stands behind a verdict, in words: what was compared for a fresh stage, which words of a command changed, which rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from dvcx.core.objects import TREE, Content
from dvcx.core.pipeline.params import same, select
from dvcx.core.pipeline.schema import Stage
from dvcx.core.records import LockEntry
from dvcx.core.staleness import Reason, Snapshot, value_text
from dvcx.errors import amount, display

# Kinds of what was compared and found the same; and of the parts of a reason.
SAME_COMMAND, SAME_DEP, SAME_PARAM, SAME_OUT = "same_command", "same_dep", "same_param", "same_out"
SAME_ENV, FROZEN = "same_env", "frozen"
SAME_ENV = "same_env"
TOKEN, MORE = "token", "more"

MAX_TOKENS = 2_000
"""Commands of more words are not compared word by word: it takes the product of both lengths."""


def compared(stage: Stage, locked: LockEntry | None, now: Snapshot) -> tuple[Reason, ...]:
    """What was compared for a fresh stage: one line for the command and for each path and parameter, all as in its last run."""
    if stage.frozen or locked is None:
        return (Reason(FROZEN, stage.address, "frozen: only whether its outputs are there is looked at"),)
    found = [Reason(SAME_COMMAND, stage.address, "command: as in its last run")]
    for path in dict.fromkeys((*stage.deps, *locked.deps)):
        if path in locked.deps:
            content = locked.deps[path]
            found.append(_same(SAME_DEP, path, content, f"as it was read{_left(path, content, now)}"))
    for name, files in locked.used.items():
        count = f"{len(files):,} {'file' if len(files) == 1 else 'files'}"
        found.append(Reason(SAME_DEP, name, display(f"{name}: {count} as they were")))
    found += [Reason(SAME_DEP, path, display(f"{path}: missing, as it was")) for path in locked.absent]
    asked = {address: "as it was read" if address in now.external else "not asked" for address in locked.external}
    found += [Reason(SAME_DEP, address, display(f"{address}: {words}")) for address, words in asked.items()]
    found += [Reason(SAME_ENV, name, display(f"environment variable {name}: as it was")) for name in locked.env]
    for of in stage.params:
        values = select(now.params.get(of.file) or {}, of.keys)
        for key, value in values.items():
            if key in locked.params.get(of.file, {}) and same(locked.params[of.file][key], value):
                text = display(f"{of.file}: {key} is {value_text(value)} still")
                found.append(Reason(SAME_PARAM, f"{of.file}:{key}", text, value, value))
    for path, content in locked.outs.items():
        found.append(_same(SAME_OUT, path, content, f"as it was written{_left(path, content, now)}"))
    return tuple(found)


def _left(path: str, content: Content, now: Snapshot) -> str:
    left = now.not_pulled.get(path)
    return "" if left is None else ", not pulled" if left == content.files else ", not all of it pulled"


def _same(kind: str, path: str, content: Content, words: str) -> Reason:
    count = f", {content.files:,} {'file' if content.files == 1 else 'files'}" if content.kind == TREE else ""
    return Reason(kind, path, display(f"{path}: {words} ({amount(content.size)}{count})"), content, content)


def token_changes(old: str | Sequence[str], new: str | Sequence[str]) -> tuple[Reason, ...]:
    """The words of a command that changed, in the order of the new one: replaced, added or removed."""
    before, after = _words(old), _words(new)
    if max(len(before), len(after)) > MAX_TOKENS:
        return ()
    # Imported here: it costs 2 ms, and only a changed command needs it.
    from difflib import SequenceMatcher

    found = []
    for step, from_, to, start, end in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        was, is_ = " ".join(before[from_:to]), " ".join(after[start:end])
        if step == "replace":
            found.append(_token(f"'{was}' → '{is_}'", was, is_))
        elif step == "delete":
            found.append(_token(f"'{was}' is gone", was, None))
        elif step == "insert":
            found.append(_token(f"'{is_}' is new", None, is_))
    return tuple(found)


def _words(cmd: str | Sequence[str]) -> list[str]:
    """A command's words, quoted text together; the border between two lines of a list is a word, too."""
    from re import findall

    lines = [cmd] if isinstance(cmd, str) else list(cmd)
    words: list[str] = []
    for number, line in enumerate(lines):
        words += ["&&"] if number else []
        words += findall(r"(?:'[^']*'|\"(?:[^\"\\]|\\.)*\"|\\.|[^\s'\"\\]|['\"\\])+", line)
    return words


def _token(text: str, old: str | None, new: str | None) -> Reason:
    shown = text if len(text) <= 200 else text[:199] + "…"
    return Reason(TOKEN, "", display(shown), old, new)


def line_changes(old: bytes, new: bytes, noun: str) -> str:
    """How two texts differ, counted in lines: "1 row added"; "" when one of them is no text or both are the same."""
    if old == new or b"\0" in old or b"\0" in new:
        return ""
    try:
        before, after = old.decode().splitlines(), new.decode().splitlines()
    except UnicodeDecodeError:
        return ""
    if noun == "row" and before[:1] != after[:1] and before and after:
        # Another header makes every row another one; so does another separator.
        return "its first row changed" if before[1:] == after[1:] else "its first row and others changed"
    added, removed = _surplus(after, before), _surplus(before, after)
    changed = min(added, removed)
    parts = list(_counted({"changed": changed, "added": added - changed, "removed": removed - changed}, noun))
    if parts:
        return ", ".join(parts)
    return f"its {noun}s in another order" if before != after else "only its line ends"


def _surplus(texts: Sequence[str], others: Sequence[str]) -> int:
    return (Counter(texts) - Counter(others)).total()


def _counted(counts: Mapping[str, int], noun: str) -> Iterator[str]:
    told = False
    for state, count in counts.items():
        if count:
            yield f"{count:,} {'' if told else noun + ' ' if count == 1 else noun + 's '}{state}"
            told = True
