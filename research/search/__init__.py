"""Search over the knobs of an experiment.

    space     the search space: ranges and choices         budget    limits on trials, time and steps
    study     the record of trials, shared by workers      gp        Gaussian-process search
    worker    claim a trial, train it, repeat              report    table, plot and importance of knobs
    verb      `sweep`: the complete search, with one or many workers

To add a sampler or a stopping rule, extend SEARCHES or STOPPINGS in `study.py`. Needs the extra `sweep`.
"""

from research.search.verb import Swept, sweep
from research.search.worker import worker_command

__all__ = ["Swept", "sweep", "worker_command"]
