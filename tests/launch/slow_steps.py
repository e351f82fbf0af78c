"""Linear regression whose batches take their time, to be ended from outside; the last process can fail by itself."""

import dataclasses
import time

import jax

from research.experiment import Experiment
from tests import toys


def experiment(*, steps: int = 20, seconds: float = 0.0, fail_at: int = -1) -> Experiment:
    """A checkpoint every 5 steps.

    seconds: how long a step takes
    fail_at: the step at which the last process raises an exception
    """
    base = toys.experiment(steps=steps, save_every=5, log_every=5, evals={})

    class Source:
        size, examples, data = base.source.size, base.source.examples, None

        def __call__(self, seed):
            batch_at = base.source(seed)

            def at(step, rows=slice(None)):
                time.sleep(seconds)
                if step == fail_at and jax.process_index() == jax.process_count() - 1:
                    raise RuntimeError("boom")
                return batch_at(step, rows)

            return at

    return dataclasses.replace(base, source=Source())
