"""Statistics per layer over a run, as an evaluation, so that neither the train step nor the loop changes."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.core import Ctx, Eval, Mean, Trained, draw, gradient
from research.diagnose.activations import layer_names, watched
from research.distributed.sharding import on_device, under
from research.duration import percent, period
from research.errors import UserError
from research.evaluate import evaluator
from research.events import Evaluated
from research.experiment import Built, Experiment, wire
from research.runs.reader import LAYERS


class First(NamedTuple):
    """An evaluation set of one batch: the first of a Source."""

    batch_at: Any
    size: int
    examples: int
    data: None = None

    def __len__(self):
        return 1

    def __call__(self, step: int, rows=slice(None)):
        return self.batch_at(0, rows=rows)


def layers(experiment: Experiment, *, every=percent(10)) -> Eval | None:
    """Return the Eval of the numbers `<statistic>/<layer>`.

    It uses the first training batch of seed 0, always with the same random numbers. Returns None if the experiment
    declares its own step, as in reinforcement learning.

    `gradient` and `weight` are the norms of a layer's gradient and params. `update` is the norm of the optimizer's
    update divided by that of the params (0 if the params are 0). `mean`, `std`, `dead` and `saturated` are defined by
    `research.diagnose.activations.watched`. They are missing if the experiment has its own `grad_fn`, which may split
    the batch. Layers are named by `layer_names`.
    """
    ex, wired = experiment, wire(experiment)
    if wired.transform is not None:
        return None
    grad_fn, optimizer = wired.grad_fn or gradient(watched(wired.loss)), wired.optimizer

    def measure(trained, batch):
        state = on_device(trained.stats._replace(params=trained.params))  # the view returns the complete State
        key = draw(state.seed, "layers")
        grads, out = grad_fn(state.params, Ctx(batch, state.stats, key, state.step))
        updates, _ = optimizer.update(grads, state.opt, state.params, value=out.metrics["loss"].value())
        names = layer_names(state.params)
        gradients, weights, changes = (_norms(tree, names) for tree in (grads, state.params, updates))
        numbers = {"gradient": gradients, "weight": weights}
        numbers["update"] = {name: changes[name] / jnp.where(w > 0, w, jnp.inf) for name, w in weights.items()}
        numbers = jax.tree.map(lambda x: Mean(x, jnp.float32(1)), numbers) | dict(out.metrics.get("activations", {}))
        return {f"{statistic}/{name}": x for statistic, of in numbers.items() for name, x in of.items()}

    return Eval(
        First(ex.source(0), ex.source.size, ex.source.size),
        measure,
        every,
        view=lambda state: (state.params, state._replace(params={})),
    )


def with_layers(built: Built, *, every=percent(10)) -> Built:
    """Add the evaluation "layers" to a built experiment.

    Raises UserError if the experiment declares its own step, or if its gradient cannot be computed outside the step.
    """
    ex = built.experiment
    ev = layers(ex, every=every)
    if ev is None:
        raise UserError("the experiment declares its own step.")
    try:
        trained = Trained(ex.apply, *ev.view(built.abstract))
        jax.eval_shape(under(built.mesh, ev.measure), trained, ev.source(0))
    except Exception as error:  # the step itself could be traced, so any error here must not end the run
        message = str(error).strip().split("\n")[0]
        raise UserError(
            f"the gradient cannot be computed outside the step: {type(error).__name__}: {message}"
        ) from error
    evals = {**ex.evals, LAYERS: ev}
    return built._replace(
        experiment=dataclasses.replace(ex, evals=evals),
        eval_every={**built.eval_every, LAYERS: period(every, total=built.total, stride=ex.stride)},
        evaluators={**built.evaluators, LAYERS: evaluator(ev, ex.apply, mesh=built.mesh)},
    )


def spared(subscriber):
    """Wrap a subscriber to hide the evaluation "layers": its many numbers are meant for plots and rules."""
    return lambda event: None if isinstance(event, Evaluated) and event.name == LAYERS else subscriber(event)


def _norms(tree, names) -> dict[str, jax.Array]:
    """The Euclidean norm of the leaves of each layer, in f32."""
    squares: dict[str, Any] = {}
    for name, x in zip(names, jax.tree.leaves(tree), strict=True):
        squares[name] = squares.get(name, 0) + jnp.sum(jnp.square(x.astype(jnp.float32)))
    return jax.tree.map(jnp.sqrt, squares)
