"""A watchdog: a run that makes no step for too long prints the stacks of its threads and ends."""

import faulthandler
import os
import threading
import time

from research.errors import UserError
from research.events import Ended, Started

SETTING = "RESEARCH_HANG_SECONDS"
SECONDS = 1800.0  # longer than any compilation
MARGIN = 10.0  # extra seconds, for the C thread


def limit(env, *, processes: int) -> float:
    """Return the seconds without a step after which a run counts as hung; 0 for never.

    RESEARCH_HANG_SECONDS if it is set. Otherwise half an hour for several processes, because a hung process blocks the
    devices of all, and never for one, which a person may be debugging. Raises UserError if it is not a number.
    """
    text = env.get(SETTING)
    if not text:
        return SECONDS if processes > 1 else 0.0
    try:
        return max(0.0, float(text))
    except ValueError:
        raise UserError(f"{SETTING}={text!r}; expected seconds, or 0 for never.") from None


def watchdog(seconds: float, *, beats, end):
    """Return a subscriber that watches, from `Started` to `Ended`, whether the counter `beats()` grows.

    The counter grows with every step and every evaluation batch, but not during compilation. If it does not change for
    `seconds`, the stacks of all threads are written to stderr and `end(text)` is called, which must not return. If C
    code blocks the interpreter and thus this thread, a C thread prints the stacks and ends the process.
    """
    over = threading.Event()

    def watch():
        last, since = beats(), time.monotonic()  # which stands still while a laptop sleeps
        tick = min(1.0, seconds / 10)
        while not over.wait(tick):
            faulthandler.dump_traceback_later(seconds + MARGIN, exit=True, file=2)  # by a thread of C
            if beats() != last:
                last, since = beats(), time.monotonic()
            elif time.monotonic() - since > seconds:
                text = f"no progress for {seconds:g} s ({SETTING})"
                dump(text)
                end(text)
        faulthandler.cancel_dump_traceback_later()

    def listen(event):
        if isinstance(event, Started):
            threading.Thread(target=watch, name="watchdog", daemon=True).start()
        if isinstance(event, Ended):
            over.set()

    return listen


def dump(text: str):
    """Write a line of text and the Python stacks of all threads to stderr."""
    os.write(2, f"\n{text}; the stacks of all threads of process {os.getpid()}:\n".encode())
    faulthandler.dump_traceback(file=2, all_threads=True)
