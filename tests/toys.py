"""Small experiments that the tests of the loop share. Each compiles in about a second."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.core import Eval, Mean, Model, Out, Rows, weighted_mean
from research.data import arrays, batches, eval_batches
from research.experiment import Experiment

RNG = np.random.default_rng(0)
DATA = arrays(
    x=RNG.normal(size=(50, 3)).astype(np.float32),
    y=RNG.normal(size=50).astype(np.float32),
    label=RNG.integers(0, 3, 50).astype(np.int32),
)


def model():
    """Linear regression through the bare door, with a noise scale that a test can set."""
    return Model(
        lambda key: ({"w": jax.random.normal(key, (3,)), "b": jnp.zeros(())}, {}),
        lambda params, stats, x, key=None, train=False: (x @ params["w"] + params["b"], {}),
    )


def loss_of(apply, *, noise=0.3, spoil=None):
    """Squared error on noisy inputs; `spoil(step, key)` is multiplied in, to break a run on purpose."""

    def loss(params, ctx):
        x = ctx.batch["x"] + noise * jax.random.normal(ctx.key, ctx.batch["x"].shape)
        y, stats = apply(params, ctx.stats, x, key=ctx.key, train=True)
        error = (y - ctx.batch["y"]) ** 2
        if spoil:
            error = error * spoil(ctx.step, ctx.key)
        mean = weighted_mean(error, jnp.ones(len(error)))
        return mean.value(), Out(stats, {"loss": mean, "largest": Mean(jnp.max(error), jnp.float32(1))})

    return loss


def measure(trained, batch):
    """Mean squared error, and the prediction of every record."""
    y = trained(batch["x"])
    error = (y - batch["y"]) ** 2
    return {"mse": weighted_mean(error, batch["mask"]), "rows": Rows({"y": y, "error": error}, batch["mask"])}


def experiment(*, spoil=None, noise=0.3, **changes) -> Experiment:
    """40 steps on 50 records in batches of 8 (so epochs are ragged), evaluated every 10, saved every 5."""
    made = model()
    fields = {
        "init": made.init,
        "apply": made.apply,
        "loss": loss_of(made.apply, noise=noise, spoil=spoil),
        "optimizer": optax.adam(0.05),
        "source": batches(DATA, 8),
        "steps": 40,
        "evals": {
            "valid": Eval(eval_batches(DATA, 16), measure, every=10),
            "test": Eval(eval_batches(DATA, 12), measure),
        },
        "schedules": {"learning_rate": lambda step: 0.05},
        "log_every": 3,
        "save_every": 5,
    }
    return Experiment(**{**fields, **changes})
