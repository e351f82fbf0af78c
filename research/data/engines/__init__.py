"""Prepare data that do not fit in memory: the same pure function in local processes, on Beam, Spark and Ray Data.

    map_records(fn, source, out, engine=...)    a data set, a stream or large files, to an indexed set
    cut_stream(source, out, time=..., ...)      an unbounded source, cut into event-time windows
    late_records(out)                           the records that came after their window was closed

    local(workers=...)                          processes of this machine, the default
    beam(runner=...)   spark(master=...)   ray(address=...)     extras of the same names

Contract: an engine is a function `(task, pieces)` that calls `task(piece)` once or more for every piece of an iterable,
anywhere, and raises if one of them raises. It holds a bounded number of pieces. A task writes its part itself and
returns nothing, so that the output does not depend on the engine. All workers need the folder of the output under the
same path, and this package. To add an engine, copy `spark.py`.
"""

# These functions intentionally shadow the modules of the same name.
from research.data.engines.beam import beam
from research.data.engines.local import local
from research.data.engines.map_records import map_records
from research.data.engines.ray import ray
from research.data.engines.spark import spark
from research.data.engines.stream import cut_stream, late_records

__all__ = ["beam", "cut_stream", "late_records", "local", "map_records", "ray", "spark"]
