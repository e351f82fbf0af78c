"""Batches ahead of the step: one thread reads and places them while the devices work."""

import atexit
import queue
import threading
import time

from research.errors import UserError


def prefetch(source, start: int, stop: int, *, place, stride: int = 1, depth: int = 2):
    """A generator of `(place(source(step)), seconds waited for it)` for step in range(start, stop, stride).

    `place` (host batch -> device batch) runs in the thread too. At most `depth` batches exist besides the one that
    the consumer holds. What `source` or `place` raises is raised here, at the step that it belongs to, with its
    traceback. Closing the generator, or dropping it, ends the thread after the batch that it is at.
    Raises UserError for a stride or depth below 1.
    """
    if stride < 1 or depth < 1:
        raise UserError(f"prefetch with stride {stride} and depth {depth}; expected at least 1.")
    return _prefetched(source, range(start, stop, stride), place, depth)


def _prefetched(source, steps, place, depth):
    ready = queue.SimpleQueue()
    slots = threading.Semaphore(depth)  # taken before a batch is made, so that `depth` bounds the memory
    closed = threading.Event()

    def work():
        for step in steps:
            slots.acquire()
            if closed.is_set():
                return
            try:
                ready.put((place(source(step)), None))
            except BaseException as error:  # The consumer decides what it means, KeyboardInterrupt included.
                ready.put((None, error))
                return

    def close():
        if closed.is_set():
            return
        closed.set()
        slots.release()
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
            batch, error = ready.get()
            waited = time.perf_counter() - began
            slots.release()
            if error is not None:
                raise error
            yield batch, waited
            del batch  # else this frame would keep it alive while the next one is waited for
    finally:
        close()
        unregister(close)
        error = None  # an error's traceback refers to this frame
