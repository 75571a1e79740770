"""The program's door: answers --version at once, hands everything else to the command line."""

from __future__ import annotations

import _thread
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

SIGINT = 2


def run() -> int:
    """Run the command line of this process; the exit code."""
    _keep_interrupts()
    try:
        return _run()
    except KeyboardInterrupt:
        # While modules load, or at the very end: `main` handles its own.
        sys.stderr.write("interrupted\n")
        return 130
    finally:
        _give_signals_back()


class _Trip:
    """`trip[number]` makes a signal pending, which its handler then hears of where the interpreter next looks for signals.

    Not by a call: after one it looks at once.
    """

    __getitem__ = _thread.interrupt_main


def _keep_interrupts() -> None:
    """Python prints and forgets what is raised in a destructor or a weak reference's callback; importlib has such.

    An interruption is raised again, in what was going on around it.
    """
    others = sys.unraisablehook
    trip: Any = _Trip()

    def hook(unraisable: UnraisableHookArgs) -> Any:
        stop = unraisable.exc_value
        if not isinstance(stop, KeyboardInterrupt):
            return others(unraisable)
        number = getattr(stop, "number", SIGINT)
        if number != SIGINT:  # its handler has put itself out of the way
            sys.modules["signal"].signal(number, stop.handler)  # type: ignore[attr-defined]
        del stop
        return trip[number]

    sys.unraisablehook = hook


def _give_signals_back() -> None:
    """The work is done: a signal that comes while the interpreter takes itself apart has nothing to clean up any more."""
    signal = sys.modules.get("signal")  # what did not load it has not taken any
    for name in ("SIGINT", "SIGTERM", "SIGHUP"):
        number = getattr(signal, name, None)
        if signal is not None and number is not None and callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)


def _run() -> int:
    arguments = sys.argv[1:]
    if arguments in (["--version"], ["-V"]):
        from dvcx import __version__

        print(f"dvcx {__version__}")
        return 0
    # What is made while modules load is no garbage; looking for it there costs a tenth of the start-up.
    import gc

    gc.set_threshold(200_000, 20, 20)
    from dvcx.cli.main import main

    code = main(arguments)
    # The interpreter would search everything once more before it goes: another tenth.
    gc.freeze()
    return code


if __name__ == "__main__":
    sys.exit(run())
