"""Prefetch batches: one thread reads batches and places them on the devices while the devices compute."""

import atexit
import threading
import time
from collections import deque

from research.errors import UserError

AHEAD = 64 * 2**20  # bytes of prefetched batches
FEWEST, MOST = 2, 128  # limits of their number


def prefetch(source, start: int, stop: int, *, place, stride: int = 1, depth: int | None = None):
    """Yield `(place(source(step)), seconds spent waiting)` for each step in range(start, stop, stride).

    `place` (host batch -> device batch) also runs in the thread. At most `depth` batches exist in addition to the
    consumer's; by default as many as fit in 64 MiB, but at least 2 and at most 128. The thread refills the queue when
    it is half empty, because waking the thread costs as much as a small step. An exception of `source` or `place` is
    raised here, at its step, with its traceback. Closing or deleting the generator stops the thread after its current
    batch. Raises UserError for a stride or depth below 1.
    """
    if stride < 1 or (depth is not None and depth < 1):
        raise UserError(f"prefetch with stride {stride} and depth {depth}; expected at least 1.")
    return _prefetched(source, range(start, stop, stride), place, depth)


def _prefetched(source, steps, place, depth):
    queue: deque = deque()
    change = threading.Condition()
    limit, closed = depth, False
    # `full`: the worker sleeps. `hungry`: the consumer sleeps. A deque is thread-safe without a lock. The lock is
    # needed only if the other side sleeps or is about to: each side sets its flag before its last look at the queue.
    full = hungry = False

    def work():
        nonlocal limit, full
        may_continue = lambda: closed or len(queue) <= limit // 2
        for step in steps:
            batch = failure = None
            try:
                batch = place(source(step))
            except BaseException as error:  # passed to the consumer, KeyboardInterrupt included
                failure = error
            limit = limit or _default_depth(batch)
            queue.append((batch, failure))
            del batch  # otherwise this frame would keep one more batch alive
            if hungry:
                with change:
                    change.notify()
            if len(queue) >= limit:
                with change:
                    full = True
                    change.wait_for(may_continue)
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
        # Trap: the garbage collector may run this in the worker thread, which cannot join itself.
        if thread is not threading.current_thread():
            thread.join()

    thread = threading.Thread(target=work, name="prefetch", daemon=True)
    thread.start()
    # Trap: a thread that uses the devices during interpreter shutdown would crash the process. When the interpreter
    # finally deletes this generator, modules are already empty, thus `unregister` needs a local name.
    atexit.register(close)
    unregister = atexit.unregister
    try:
        for _ in steps:
            began = time.perf_counter()
            if not queue:
                with change:
                    hungry = True
                    change.wait_for(lambda: queue)
                    hungry = False
            batch, error = queue.popleft()
            if full and len(queue) <= limit // 2:
                with change:
                    change.notify()
            waited = time.perf_counter() - began
            if error is not None:
                raise error
            yield batch, waited
            del batch  # otherwise this frame would keep it alive while it waits for the next batch
    finally:
        close()
        unregister(close)
        error = None  # breaks a reference cycle: the traceback of an error refers to this frame


def _default_depth(batch) -> int:
    """Return the number of batches of this size that may be prefetched."""
    import jax

    size = sum(getattr(x, "nbytes", 0) for x in jax.tree.leaves(batch))
    return min(MOST, max(FEWEST, AHEAD // max(size, 1)))
