"""Evaluation: accuracy and loss over a set of batches. A step is one pass over the set."""

import jax
import jax.numpy as jnp
import numpy as np

from research.core import Eval, State
from research.data import arrays, eval_batches
from research.distributed.sharding import make_mesh
from research.evaluate import evaluator
from research.metrics.classification import measure_classification
from tests.benchmarks import works
from tests.benchmarks.ours import model_of
from tests.benchmarks.turns import Gate, serve, turns


def prepared(work: works.Work):
    """(model, params, the records of the set)."""
    s = work.sizes
    model = model_of(work._replace(kind="mlp"))
    params, _ = jax.jit(model.init)(jax.random.key(0))
    rng, count = np.random.default_rng(0), s.batch * s.batches
    records = {"image": rng.normal(size=(count, s.features)).astype(np.float32)}
    return model, params, {**records, "label": rng.integers(0, s.classes, count).astype(np.int32)}


def ours(work: works.Work, gate: Gate):
    """The evaluator that the loop uses: with its confusion matrix, and the results as numbers on the host."""
    model, params, records = prepared(work)
    made = Eval(
        eval_batches(arrays(**records), work.sizes.batch), measure_classification(num_classes=work.sizes.classes)
    )
    evaluate = evaluator(made, model.apply, mesh=make_mesh({"data": 1}, devices=jax.devices()[:1]))
    state = State(np.uint32(0), np.uint32(0), np.int32(0), params, {}, ())
    turns(gate, lambda: evaluate(state), wait=lambda _: None)


def floor(work: works.Work, gate: Gate):
    """A jitted sum of loss and hits over batches that are cut from the arrays."""
    model, params, records = prepared(work)

    @jax.jit
    def add(params, totals, batch):
        logits, _ = model.apply(params, {}, batch["image"])
        chosen = jnp.take_along_axis(logits, batch["label"][:, None], -1)[:, 0]
        loss = (jax.nn.logsumexp(logits, -1) - chosen).sum()
        return totals[0] + loss, totals[1] + (logits.argmax(-1) == batch["label"]).sum()

    def one():
        totals, size = (jnp.float32(0), jnp.int32(0)), work.sizes.batch
        for i in range(0, len(records["label"]), size):
            totals = add(params, totals, {name: x[i : i + size] for name, x in records.items()})
        return [float(x) for x in totals]

    turns(gate, one, wait=lambda _: None)


if __name__ == "__main__":
    serve({"ours": ours, "floor": floor})
