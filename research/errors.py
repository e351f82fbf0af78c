"""Errors meant for the person at the keyboard: what was given, what was expected, the nearest valid name."""

import difflib


class UserError(Exception):
    """A mistake in a command, an experiment or its data. Shown as one message, without a traceback."""


def nearest(given, valid):
    """`" Did you mean 'x'?"` for the valid name closest to `given`, else an empty string."""
    close = difflib.get_close_matches(str(given), [str(name) for name in valid], n=1, cutoff=0.5)
    return f" Did you mean {close[0]!r}?" if close else ""


def unknown(kind, given, valid):
    """A `UserError` that names the unknown thing, the nearest valid name, and all valid names."""
    names = ", ".join(sorted(str(name) for name in valid)) or "none"
    return UserError(f"unknown {kind} {given!r}.{nearest(given, valid)} Valid: {names}.")
