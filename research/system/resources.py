"""What a run takes besides time: memory, and seconds of compilation."""

import resource
import sys

import jax
from jax import monitoring

COMPILED = "/jax/core/compile/backend_compile_duration"


def peak_memory() -> int:
    """The most bytes held so far: on the first device where it tells (an accelerator), else by this process."""
    told = jax.local_devices()[0].memory_stats()
    if told and "peak_bytes_in_use" in told:
        return int(told["peak_bytes_in_use"])
    # In KiB on Linux, in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def compilations():
    """(taken, close): `taken()` gives the seconds that XLA compiled for since it was last called, in all threads;
    `close()` ends the listening.
    """
    spent = [0.0]

    def listen(event, seconds, **_):
        if event == COMPILED:
            spent[0] += seconds

    def taken():
        seconds, spent[0] = spent[0], 0.0
        return seconds

    monitoring.register_event_duration_secs_listener(listen)
    return taken, lambda: monitoring.unregister_event_duration_listener(listen)
