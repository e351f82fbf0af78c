"""Resource use of a run: peak memory and compilation time."""

import resource
import sys

import jax
from jax import monitoring

COMPILED = "/jax/core/compile/backend_compile_duration"


def peak_memory() -> int:
    """Return the peak memory in bytes, of the first device (accelerators) or of this process (CPU)."""
    stats = jax.local_devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return int(stats["peak_bytes_in_use"])
    # ru_maxrss is in KiB on Linux, in bytes on macOS.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def compilations():
    """Measure compilation time; return two functions, (taken, close).

    `taken()` returns the seconds that XLA spent compiling, in all threads, since the last call. `close()` stops the
    measurement.
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
