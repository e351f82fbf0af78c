"""Nothing hangs for ever: a run that makes no step for too long shows where it stands, and ends."""

import faulthandler
import os
import threading
import time

from research.errors import UserError
from research.events import Ended, Started

SETTING = "RESEARCH_HANG_SECONDS"
SECONDS = 1800.0  # longer than a compilation takes
MARGIN = 10.0  # seconds more, for the thread of C


def limit(env, *, processes: int) -> float:
    """After how many seconds without a step a run is taken to hang; 0 for never.

    RESEARCH_HANG_SECONDS, else half an hour in a job of several processes, where one that hangs holds the devices
    of all, and never for one process, which a person may be debugging. Raises UserError for what is no number.
    """
    text = env.get(SETTING)
    if not text:
        return SECONDS if processes > 1 else 0.0
    try:
        return max(0.0, float(text))
    except ValueError:
        raise UserError(f"{SETTING}={text!r}; expected seconds, or 0 for never.") from None


def watchdog(seconds: float, *, beats, end):
    """A subscriber that watches, from `Started` to `Ended`, whether the number `beats()` grows: once a step and once
    a batch of an evaluation. A compilation counts as standing still.

    Where it stands for `seconds`, the stacks of all threads go to stderr and `end(text)` is called, which is not to
    return. Should even this thread not run, because C code holds the interpreter, a thread of C does the same.
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
                text = f"no step was made for {seconds:g} s ({SETTING})"
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
    """Writes the Python stacks of all threads to stderr, under a line of text."""
    os.write(2, f"\n{text}; the stacks of all threads of process {os.getpid()}:\n".encode())
    faulthandler.dump_traceback(file=2, all_threads=True)
