"""Search over the knobs of an experiment: what to try next, when to stop a run, and what it all came to.

    space     what is searched: ranges and choices       budget    trials, hours, steps
    study     the record of trials, shared by workers    gp        the Gaussian process
    worker    takes a trial, trains it, takes the next   report    table, picture, importance of knobs
    verb      `sweep`: all of it, by one or many workers

To add a sampler or a stopping rule, extend SEARCHES or STOPPINGS in `study.py`. Needs the extra `sweep`.
"""

from research.search.verb import Swept, sweep
from research.search.worker import worker_command

__all__ = ["Swept", "sweep", "worker_command"]
