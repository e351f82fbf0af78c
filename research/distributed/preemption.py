"""Leaving early, all at once: SIGTERM, SIGUSR1 or Ctrl-C at any process ends the run at the same point on all."""

import contextlib
import os
import signal
import threading

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
AGREEMENT = 60.0  # seconds; only background threads take part in it, so nobody is waited for that computes


class Interruption:
    """Whether a run is to stop: called, by the loop and by evaluations, at the same points on every process.

    The calls are counted. Once one process is asked to stop, each tells how many calls it has made, and takes no
    further one until it knows all counts; from the call after the largest on, the answer is yes everywhere.
    `number` is the signal that asked, None before; `calls` shows that the run is alive.
    """

    def __init__(self):
        self.calls, self.number = 0, None
        self._lock = threading.RLock()  # a signal handler may interrupt its own thread in here
        self._first = None
        self._agreed = threading.Event()

    def __call__(self) -> bool:
        with self._lock:
            self.calls += 1
            mine, asked = self.calls, self.number
        if asked is None:
            return False
        # Raised rather than ignored: a process that stops by itself leaves the others waiting in a collective.
        if not self._agreed.wait(AGREEMENT):
            raise TimeoutError(f"the processes did not agree within {AGREEMENT:.0f} s on a step to stop at")
        return mine >= self._first

    def stop(self, number: int, *, counts=lambda count: [count]):
        """Asks for a stop on account of a signal; `counts(mine)` gives the calls made by each process."""
        with self._lock:
            if self.number is not None:
                return
            self.number, mine = number, self.calls
        self._first = max(counts(mine)) + 1
        self._agreed.set()


@contextlib.contextmanager
def signals(ask):
    """While it lasts, `ask(number)` is called for the signals that ask a run to end: it saves and leaves.

    A second Ctrl-C leaves at once. Outside the main thread nothing is caught. To be entered after
    `distributed.join`: JAX takes SIGTERM for itself there, from a handler that was set before.
    """
    caught = set()

    def handle(number, frame):
        if signal.SIGINT in caught and number == signal.SIGINT:
            os._exit(130)
        caught.add(number)
        hint = " Ctrl-C again leaves at once." if number == signal.SIGINT else ""
        os.write(2, f"\n{signal.Signals(number).name}: finishing the step and saving.{hint}\n".encode())
        ask(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
