"""What somebody may have meant: the one way dvcx suggests a spelling."""

from __future__ import annotations

from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """A hint naming the word of `known` nearest to `word`, "" when none is near. `known` is cut at 2,000 words."""
    # Imported here: it costs 2 ms that only a mistake has to pay.
    import difflib
    from itertools import islice

    near = difflib.get_close_matches(word[:100], list(islice(known, 2000)), n=3, cutoff=0.6)
    # Letters in another order are the likeliest slip of all.
    near.sort(key=lambda other: sorted(other) != sorted(word))
    return f"did you mean '{near[0]}'?" if near else ""
