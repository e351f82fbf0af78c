"""Batches ahead of the step: one thread reads and places them while the devices work."""

import atexit
import threading
import time
from collections import deque

from research.errors import UserError

AHEAD = 64 * 2**20  # bytes of batches that wait
FEWEST, MOST = 2, 128


def prefetch(source, start: int, stop: int, *, place, stride: int = 1, depth: int | None = None):
    """A generator of `(place(source(step)), seconds waited for it)` for step in range(start, stop, stride).

    `place` (host batch -> device batch) runs in the thread too. At most `depth` batches exist besides the one that
    the consumer holds; by default as many as 64 MiB hold, but 2 to 128. When half of them are taken the thread makes
    the next half: waking it costs as much as a small step. What `source` or `place` raises is raised here, at the
    step that it belongs to, with its traceback. Closing the generator, or dropping it, ends the thread after the
    batch that it is at. Raises UserError for a stride or depth below 1.
    """
    if stride < 1 or (depth is not None and depth < 1):
        raise UserError(f"prefetch with stride {stride} and depth {depth}; expected at least 1.")
    return _prefetched(source, range(start, stop, stride), place, depth)


def _prefetched(source, steps, place, depth):
    ready: deque = deque()
    change = threading.Condition()
    limit, closed = depth, False
    # Who sleeps. A deque is safe without the lock, which is taken only where the other side sleeps or may be about to:
    # each side says that it will before it looks at the deque for the last time.
    full = hungry = False

    def work():
        nonlocal limit, full
        room = lambda: closed or len(ready) <= limit // 2
        for step in steps:
            batch = failure = None
            try:
                batch = place(source(step))
            except BaseException as error:  # The consumer decides what it means, KeyboardInterrupt included.
                failure = error
            limit = limit or _fitting(batch)
            ready.append((batch, failure))
            del batch  # else this frame would keep one more alive
            if hungry:
                with change:
                    change.notify()
            if len(ready) >= limit:
                with change:
                    full = True
                    change.wait_for(room)
                    full = False
            if closed or failure is not None:
                return

    def close():
        nonlocal closed
        if closed:
            return
        with change:
            closed = True
            change.notify()
        # The garbage collector may run this in the worker itself.
        if thread is not threading.current_thread():
            thread.join()

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    # A thread that still talks to the devices while the interpreter is torn down would crash it. By the time that the
    # interpreter drops this generator, modules are empty: hence the name of its own for `unregister`.
    atexit.register(close)
    unregister = atexit.unregister
    try:
        for _ in steps:
            began = time.perf_counter()
            if not ready:
                with change:
                    hungry = True
                    change.wait_for(lambda: ready)
                    hungry = False
            batch, error = ready.popleft()
            if full and len(ready) <= limit // 2:
                with change:
                    change.notify()
            waited = time.perf_counter() - began
            if error is not None:
                raise error
            yield batch, waited
            del batch  # else this frame would keep it alive while the next one is waited for
    finally:
        close()
        unregister(close)
        error = None  # an error's traceback refers to this frame


def _fitting(batch) -> int:
    """How many such batches may wait."""
    import jax

    size = sum(getattr(x, "nbytes", 0) for x in jax.tree.leaves(batch))
    return min(MOST, max(FEWEST, AHEAD // max(size, 1)))
