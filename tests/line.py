"""A linear model split over all devices, for the tests of several processes. On wish it is slow, raises or hangs."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import PartitionSpec

from research.core import Eval, Out, Rows, weighted_mean
from research.data import arrays, batches, eval_batches
from research.experiment import Best, Experiment


class Source(NamedTuple):
    """A training source that `make(seed)` gives as it is. Not shared: the copy of this file in a run stands alone."""

    make: Callable
    size: int
    examples: int
    data: None = None

    def __call__(self, seed):
        return self.make(seed)


def experiment(*, steps: int = 60, stride: int = 1, pause: float = 0.0, trouble: str = "", rank: int = 1) -> Experiment:
    """`pause` seconds before each batch; at step 23 the data of one `rank` raises or sleeps, as `trouble` says, or that
    of every rank compiles something at every step.
    """
    rng = np.random.default_rng(0)
    data = arrays(x=rng.normal(size=(50, 16)).astype(np.float32), y=rng.normal(size=(50, 4)).astype(np.float32))
    train = batches(data, 8)

    def source(seed):
        batch_at = train(seed)

        def troubled(step, rows=slice(None)):
            time.sleep(pause)
            if step >= stride and jax.process_count() > 1:
                assert len(rows) * jax.process_count() == train.size, "each reads its own rows only"
            if trouble == "compile":
                # Long enough that most of it is still to come when the first step, read ahead of, is compiled; the
                # number is a part of the program, so that it is never found among what is kept.
                for salt in time.time_ns() % 1e6 + np.arange(3):
                    jax.jit(lambda x, salt=float(salt): jnp.sort(jnp.sin(x + salt)))(np.zeros(8, np.float32))
            elif trouble and step >= 23 and jax.process_index() == rank:
                if trouble == "raise":
                    raise ValueError("the data of this rank is no good")
                time.sleep(600)
            return batch_at(step, rows=rows)

        return troubled

    def apply(params, stats, x, key=None, train=False):
        return jnp.tanh(x @ params["up"]) @ params["down"], {}

    def loss(params, ctx):
        x = ctx.batch["x"] + 0.3 * jax.random.normal(ctx.key, ctx.batch["x"].shape)
        error = (apply(params, ctx.stats, x)[0] - ctx.batch["y"]) ** 2
        mean = weighted_mean(error.mean(1), jnp.ones(len(error)))
        return mean.value(), Out({}, {"loss": mean})

    def measure(trained, batch):
        y = trained(batch["x"])
        error = ((y - batch["y"]) ** 2).mean(1)
        return {"mse": weighted_mean(error, batch["mask"]), "rows": Rows({"error": error}, batch["mask"])}

    def init(key):
        up, down = jax.random.split(key)
        return {"up": jax.random.normal(up, (16, 8)), "down": jax.random.normal(down, (8, 4))}, {}

    return Experiment(
        init=init, apply=apply, loss=loss, optimizer=optax.adam(0.05),
        source=Source(source, train.size, train.examples), steps=steps, stride=stride,
        evals={"valid": Eval(eval_batches(data, 16), measure, every=20), "test": Eval(eval_batches(data, 12), measure)},
        mesh={"fsdp": -1}, rules=((r"(up|down)$", PartitionSpec("fsdp")),), best=Best("valid/mse", "min"),
        log_every=4, save_every=12,
    )  # fmt: skip
