"""Search over the knobs of an experiment: what to try next, when to stop a run, and what it all came to."""

from research.search.verb import Swept, sweep
from research.search.worker import worker_command

__all__ = ["Swept", "sweep", "worker_command"]
