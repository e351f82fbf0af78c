"""Errors meant for the person at the keyboard: what was given, what was expected, the nearest valid name."""

import difflib
import os
import signal
import sys


class UserError(Exception):
    """A mistake in a command, an experiment or its data. Shown as one message, without a traceback."""


def nearest(given, valid):
    """`" Did you mean 'x'?"` for the valid name closest to `given`, else an empty string."""
    close = difflib.get_close_matches(str(given), [str(name) for name in valid], n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def listed(names, most: int = 8):
    """`names` in a sentence: the first `most`, and how many more there are."""
    shown = ", ".join(str(name) for name in names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def unknown(kind, given, valid):
    """A `UserError` that names the unknown thing, the nearest valid name, and all valid names."""
    names = ", ".join(sorted(str(name) for name in valid)) or "none"
    return UserError(f"unknown {kind} {given!r}.{nearest(given, valid)} Valid: {names}.")


def obeyed(command, arguments=None) -> int:
    """`command(arguments)` and its exit status. A UserError is one message and 2; `--debug` shows the traceback."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in arguments
    try:
        return command([a for a in arguments if a != "--debug"])
    except UserError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        _end(2, str(error))
        return 2
    except KeyboardInterrupt:
        # Dying of the signal, rather than exiting, stops a shell's loop over seeds too.
        _end(130, "KeyboardInterrupt")
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
        return 130


def _end(code, text):
    """In a job of several processes, its end on all of them; they would wait for this one."""
    if "research.distributed.job" in sys.modules:
        sys.modules["research.distributed.job"].job().fail(code, text)
