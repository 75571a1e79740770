"""The program's door: answers --version at once, hands everything else to the command line."""

from __future__ import annotations

import sys


def run() -> int:
    """Run the command line of this process; the exit code."""
    try:
        return _run()
    except KeyboardInterrupt:
        # While modules load, or at the very end: `main` handles its own.
        sys.stderr.write("interrupted\n")
        return 130
    finally:
        _give_signals_back()


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
