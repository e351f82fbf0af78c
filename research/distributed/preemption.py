"""Coordinated interruption: a signal or Ctrl-C at any process stops all processes at the same step."""

import contextlib
import os
import signal
import threading

SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT, signal.SIGHUP)
AGREEMENT = 60.0  # seconds; only background threads take part in it, so no computing process delays it


class Interruption:
    """Whether a run should stop: the loop and evaluations call it at the same points on every process.

    Calls are counted. When one process receives a signal, all exchange their counts, and each blocks at its next call
    until it knows all counts. From the call after the largest count on, the result is True on every process. `number`
    is the signal, None before; `calls` shows that the run is alive.
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
        """Request a stop because of a signal; `counts(mine)` returns the number of calls of each process."""
        with self._lock:
            if self.number is not None:
                return
            self.number, mine = number, self.calls
        self._first = max(counts(mine)) + 1
        self._agreed.set()


@contextlib.contextmanager
def signals(ask):
    """Within the context, call `ask(number)` for each signal that should make the run save and stop.

    A second Ctrl-C quits at once. SIGHUP, sent when a terminal closes, counts unless it is ignored, as under `nohup`.
    Outside the main thread no signal is handled. Enter this context after `distributed.join`, because JAX replaces the
    SIGTERM handler there.
    """
    caught = set()

    def handle(number, frame):
        if signal.SIGINT in caught and number == signal.SIGINT:
            os._exit(130)
        caught.add(number)
        hint = " Press Ctrl-C again to quit now." if number == signal.SIGINT else ""
        with contextlib.suppress(OSError):  # the terminal may be gone
            os.write(2, f"\n{signal.Signals(number).name}: finishing the step and saving.{hint}\n".encode())
        ask(number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    before = {n: signal.signal(n, handle) for n in SIGNALS if not (ignored and n == signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
