"""An experiment whose metric is a closed form of its knobs: the best are x = 0.3, n = 7 and kind "good"."""

import time
from pathlib import Path
from typing import Literal

import jax.numpy as jnp
import optax

from research.core import Eval, Mean, Out
from research.data import arrays, batches, generated
from research.data import eval_batches as in_order
from research.experiment import Best, Experiment

STEPS = 12


def experiment(
    *, x: float = 1.0, n: int = 5, rate: float = 1e-2, kind: Literal["good", "bad"] = "good", broken: bool = False,
    gate: str = "", size: int | None = None, widths: tuple[int, ...] = (8,), name: str = "a", every: int = 1,
) -> Experiment:  # fmt: skip
    """The parameter w goes to 1 by a tenth of what is left; the value is what the knobs cost, and what is left.

    gate: a file; the seventh step waits until it is there
    """
    cost = (x - 0.3) ** 2 + 0.01 * (n - 7) ** 2 + (0.0 if kind == "good" else 0.5)
    data = arrays(z=jnp.zeros((4, 1)))

    def loss(params, ctx):
        left = (1 - params["w"]) ** 2 / 2
        left = left / (1.0 - broken * (ctx.step > 5))
        return left, Out({}, {"loss": Mean(left, jnp.float32(1))})

    def measure(trained, batch):
        return {"cost": Mean(cost + jnp.abs(1 - trained.params["w"]), jnp.float32(1))}

    def source(seed):
        make = batches(data, 4)(seed)

        def batch_at(step):
            while gate and step >= 6 and not Path(gate).exists():
                time.sleep(0.02)
            return make(step)

        return batch_at

    return Experiment(
        init=lambda key: ({"w": jnp.zeros(())}, {}),
        apply=lambda params, stats, z, key=None, train=False: (z, {}),
        loss=loss, optimizer=optax.sgd(0.1), source=generated(source, 4), steps=STEPS,
        evals={"valid": Eval(in_order(data, 4), measure, every=every), "end": Eval(in_order(data, 4), measure)},
        log_every=3, save_every=3, best=Best("valid/cost", "min"),
    )  # fmt: skip
