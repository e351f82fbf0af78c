"""The statistics of every layer over a run, as an evaluation: neither the train step nor the loop knows of it."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from research.core import Ctx, Eval, Mean, Trained, draw, gradient
from research.diagnose.activations import layer_names, watched
from research.distributed.sharding import on_device, under
from research.duration import in_steps, percent
from research.errors import UserError
from research.evaluate import evaluator
from research.events import Evaluated
from research.experiment import Built, Experiment, wire
from research.runs.reader import LAYERS


class First(NamedTuple):
    """The first batch of a Source as an evaluation set of one batch."""

    batch_at: Any
    size: int
    examples: int
    data: None = None

    def __len__(self):
        return 1

    def __call__(self, step: int, rows=slice(None)):
        return self.batch_at(0, rows=rows)


def layers(experiment: Experiment, *, every=percent(10)) -> Eval | None:
    """The Eval that gives the numbers `<statistic>/<layer>` of the first training batch of seed 0, always with the same
    random numbers; None where the experiment declares its own step, as reinforcement learning does.

    `gradient` and `weight` are the norms of a layer's gradient and params, `update` is the norm of what the optimizer
    would add to the params over that of the params (0 where they are 0 themselves). `mean`, `std`, `dead` and
    `saturated` are those of `research.diagnose.activations.watched`; they are missing where the experiment has a
    `grad_fn` of its own, which sees the batch in parts. Layers are those of `layer_names`.
    """
    ex, wired = experiment, wire(experiment)
    if wired.transform is not None:
        return None
    grad_fn, optimizer = wired.grad_fn or gradient(watched(wired.loss)), wired.optimizer

    def measure(trained, batch):
        state = on_device(trained.stats._replace(params=trained.params))  # the view gives the whole State
        key = draw(state.seed, "layers")
        grads, out = grad_fn(state.params, Ctx(batch, state.stats, key, state.step))
        updates, _ = optimizer.update(grads, state.opt, state.params, value=out.metrics["loss"].value())
        names = layer_names(state.params)
        gradients, weights, changes = (_norms(tree, names) for tree in (grads, state.params, updates))
        found = {"gradient": gradients, "weight": weights}
        found["update"] = {name: changes[name] / jnp.where(w > 0, w, jnp.inf) for name, w in weights.items()}
        found = jax.tree.map(lambda x: Mean(x, jnp.float32(1)), found) | dict(out.metrics.get("activations", {}))
        return {f"{statistic}/{name}": x for statistic, of in found.items() for name, x in of.items()}

    return Eval(
        First(ex.source(0), ex.source.size, ex.source.size),
        measure,
        every,
        view=lambda state: (state.params, state._replace(params={})),
    )


def with_layers(built: Built, *, every=percent(10)) -> Built:
    """`built` with the evaluation "layers" besides its own.

    Raises UserError where there can be none: the experiment declares its own step or has an evaluation of that name, or
    its gradient cannot be computed outside the step.
    """
    ex = built.experiment
    ev = layers(ex, every=every)
    if ev is None:
        raise UserError("the experiment declares its own step.")
    try:
        trained = Trained(ex.apply, *ev.view(built.abstract))
        jax.eval_shape(under(built.mesh, ev.measure), trained, ev.source(0))
    except Exception as error:  # whatever it is, the step itself was traced well, and the run must not end of this
        what = str(error).strip().split("\n")[0]
        raise UserError(f"the gradient cannot be computed outside the step: {type(error).__name__}: {what}") from error
    evals = {**ex.evals, LAYERS: ev}
    steps = in_steps(every, total=built.total, stride=ex.stride)
    return built._replace(
        experiment=dataclasses.replace(ex, evals=evals),
        eval_every={**built.eval_every, LAYERS: steps},
        evaluators={**built.evaluators, LAYERS: evaluator(ev, ex.apply, mesh=built.mesh)},
    )


def spared(subscriber):
    """A subscriber to the events of `research.events` that hears of all evaluations but "layers": its numbers are for
    pictures and rules, and would drown the others.
    """
    return lambda event: None if isinstance(event, Evaluated) and event.name == LAYERS else subscriber(event)


def _norms(tree, names) -> dict[str, jax.Array]:
    """The Euclidean norm of each layer's leaves, in f32."""
    squares: dict[str, Any] = {}
    for name, x in zip(names, jax.tree.leaves(tree), strict=True):
        squares[name] = squares.get(name, 0) + jnp.sum(jnp.square(x.astype(jnp.float32)))
    return jax.tree.map(jnp.sqrt, squares)
