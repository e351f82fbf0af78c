"""The shared step, and the few types that everything else is made of.

    Loss    = (params, Ctx)    -> (scalar, Out)       what is minimised
    GradFn  = (params, Ctx)    -> (grads, Out)        how its gradient is estimated
    After   = (State, params)  -> stats               what follows an update: a moving average, a queue
    Source  = step             -> batch               pure and random-access: nothing to restore
    Step    = (State, batch)   -> (State, metrics)    what the loop calls
    View    = State            -> (params, stats)     which weights an evaluation sees
    Observe = (State, results) -> State | Stop        decisions that depend on evaluations
    Measure = (Trained, batch) -> {name: metric}      what an evaluation adds up; or Rows, which it collects
    Model   = init, apply                             two pure functions over plain nested dicts
    Trained = apply, params, stats                    a network with its weights; trained(x) is its output

Invariants. A Loss is pure and draws its randomness from `ctx.key` alone. The tree, shapes and dtypes of
`stats` never change. Every metric is a state whose leaves add up (`Mean`, a confusion matrix, ...), so that
batches, devices and processes of any size merge exactly; `metrics["loss"]` is a `Mean`, and the scalar that a
Loss returns is its value.
"""

from __future__ import annotations

import dataclasses
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from research.axes import Array, Bool, Float, Int, Integer, Key, Num, PyTree, Scalar, Shaped, UInt32
from research.errors import UserError, unknown

Tree = Any  # nested dicts of arrays
Batch = Mapping[str, Shaped[Array, "batch ..."]]  # fields of examples, or of what stands in their place: clients, tasks


class State(NamedTuple):
    """The whole checkpoint. `seed` and `salt` are numbers, never keys; `step` counts optimizer steps."""

    seed: UInt32[Array, ""]
    salt: UInt32[Array, ""]
    step: Int[Array, ""]
    params: Tree
    stats: Tree
    opt: Tree


class Model(NamedTuple):
    """A network as two pure functions:

    init(key)                                            -> (params, stats)
    apply(params, stats, *inputs, key=None, train=False) -> (outputs, changed stats)
    """

    init: Callable[[Key[Array, ""]], tuple[Tree, Tree]]
    apply: Callable[..., tuple[Any, Tree]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trained:
    """A network with its weights: what evaluations, predictions and every function of a trained network take.

    `trained(*inputs)` is the output in evaluation mode. A pytree of `params` and `stats`, thus an argument of
    `jax.jit`, `jax.grad` and `jax.vmap`; `apply` is static. `dataclasses.replace` exchanges a part.
    """

    apply: Callable[..., tuple[Any, Tree]] = dataclasses.field(metadata={"static": True})
    params: Tree
    stats: Tree

    def __call__(self, *inputs: Tree) -> Tree:
        return self.apply(self.params, self.stats, *inputs, train=False)[0]


class Ctx(NamedTuple):
    """All that a Loss may read besides params."""

    batch: Batch
    stats: Tree
    key: Key[Array, ""]
    step: Int[Array, ""]


class Out(NamedTuple):
    """What a Loss gives back besides its value: the stats entries it changed, and its metric states."""

    stats: Tree
    metrics: Mapping[str, Any]


class Mean(NamedTuple):
    """A weighted mean that is still open: `sum` over `weight`. States add up."""

    sum: PyTree[Float[Array, "..."]]
    weight: Float[Array, ""]

    def value(self) -> Tree:
        """The quotient, in the precision of the sums (f64 on the host); 0 if nothing had weight."""
        return jax.tree.map(lambda x: x / (self.weight + (self.weight == 0)), self.sum)


class NotAdditive(Mean):
    """The Mean of a loss that does not add over examples: `metrics["loss"]` of a contrastive loss, and the like."""


class Rows(NamedTuple):
    """Per-example results of an evaluation. Rows of mask 0 are padding and are dropped."""

    values: Batch
    mask: Float[Array, " batch"]


class Stop(NamedTuple):
    """What an Observe returns to end the run early: the state to keep, and the reason in words."""

    state: State
    reason: str


Loss = Callable[[Tree, Ctx], tuple[Scalar, Out]]
GradFn = Callable[[Tree, Ctx], tuple[Tree, Out]]
After = Callable[[State, Tree], Tree]
Source = Callable[[int], Batch]
Step = Callable[[State, Batch], tuple[State, Mapping[str, Any]]]
View = Callable[[State], tuple[Tree, Tree]]
Observe = Callable[[State, Mapping[str, Any]], State | Stop]
Measure = Callable[[Trained, Batch], Mapping[str, Any]]


def live(state: State) -> tuple[Tree, Tree]:
    """The View of the weights as they are."""
    return state.params, state.stats


class Eval(NamedTuple):
    """One evaluation set: `measure(trained, batch)` gives {name: metric state | Rows}; `trained` is a `Trained`.

    `finish(results)` turns them into numbers, texts or pictures on the host; `every` is a Duration, or None
    for the end of the run only.
    """

    source: Source
    measure: Measure
    every: Any = None
    view: View = live
    finish: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None


def gradient(loss: Loss) -> GradFn:
    """The exact gradient of a Loss: what every other GradFn estimates, and equals in its limit."""

    def grad_fn(params, ctx):
        (_, out), grads = jax.value_and_grad(loss, has_aux=True)(params, ctx)
        return grads, out

    return grad_fn


def train_step(grad_fn: GradFn, optimizer: optax.GradientTransformation, after: tuple[After, ...] = ()) -> Step:
    """The one shared train step. The optimizer sees the loss as `value`; each After sees the state before the
    update (with the stats that the loss changed) and the params after it.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def step(state, batch):
        key = draw(state.seed, "step", state.salt, state.step)
        grads, out = grad_fn(state.params, Ctx(batch, state.stats, key, state.step))
        updates, opt = optimizer.update(grads, state.opt, state.params, value=_loss(out.metrics))
        params = optax.apply_updates(state.params, updates)
        stats = overlay(state.stats, out.stats)
        for follow in after:
            stats = overlay(stats, follow(state._replace(stats=stats), params))
        return state._replace(step=state.step + 1, params=params, stats=stats, opt=opt), out.metrics

    return step


def _loss(metrics: Mapping[str, Any]) -> Scalar:
    if not isinstance(metrics.get("loss"), Mean):
        raise UserError(f'a Loss must give metrics["loss"] as a Mean; it gave {sorted(metrics)}.')
    return metrics["loss"].value()


def eval_step(apply: Callable, measure: Measure) -> Callable:
    """The sibling of `train_step`: (params, stats, totals, batch) -> (totals, rows). Never calls the loss."""

    def step(params, stats, totals, batch):
        measured = measure(Trained(apply, params, stats), batch)
        rows = {name: state for name, state in measured.items() if isinstance(state, Rows)}
        states = {name: state for name, state in measured.items() if name not in rows}
        return merge(totals, states), rows

    return step


def many(step: Step, k: int) -> Step:
    """`k` steps in one dispatch, over batches stacked on a leading axis of `k`. Equals `k` calls."""

    def steps(state, batches):
        state, metrics = repeat(step, state, batches, length=k)
        return state, jax.tree.map(lambda x: x.sum(0), metrics)

    return steps


def repeat(body: Callable, carry: Tree, xs: Tree = None, *, length: int | None = None) -> tuple[Tree, Tree]:
    """`lax.scan`, or the same unrolled if that is faster; the only loop that combinators may use.

    On CPU a convolution inside a loop runs some twenty times slower than outside it. There it is unrolled.
    """
    unroll = False
    if jax.default_backend() == "cpu":
        first = jax.tree.map(lambda x: x[0], xs)
        unroll = "conv_general_dilated" in str(jax.make_jaxpr(body)(carry, first))
    return jax.lax.scan(body, carry, xs, length=length, unroll=unroll)


def draw(
    key: Key[Array, ""] | Integer[Array, ""] | int, *path: str | int | Integer[Array, ""] | Integer[Array, " places"]
) -> Key[Array, ""] | Key[Array, " places"]:
    """A key for the place that `path` names: names and numbers are folded in one by one.

    `key` is a key or a seed number. A vector of numbers, at the end of the path, gives a key for each.
    """
    if not jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key):
        key = jax.random.key(key)
    for part in path:
        part = jnp.asarray(zlib.crc32(part.encode()) if isinstance(part, str) else part, jnp.uint32)
        key = jax.vmap(jax.random.fold_in, (None, 0))(key, part) if part.ndim else jax.random.fold_in(key, part)
    return key


def weighted_mean(values: PyTree[Num[Array, "..."]], weights: Num[Array, "*batch"] | Bool[Array, "*batch"]) -> Mean:
    """The open Mean of every leaf over its leading axes `*batch`, in f32.

    Entries of weight 0 do not count even when they are not finite: they are padding.
    """
    weights = jnp.asarray(weights, jnp.float32)

    def total(x):
        w = weights.reshape(weights.shape + (1,) * (x.ndim - weights.ndim))
        return jnp.sum(jnp.where(w == 0, 0, x.astype(jnp.float32) * w), axis=tuple(range(weights.ndim)))

    return Mean(jax.tree.map(total, values), jnp.sum(weights))


def not_additive(mean: Mean) -> NotAdditive:
    """`mean`, marked as the mean of a loss that does not add over examples."""
    return NotAdditive(*mean)


def check_additive(metrics: Mapping[str, Any], *, by: str) -> None:
    """Raises UserError, while tracing, if `metrics["loss"]` is NotAdditive; `by` names what would split the batch."""
    if isinstance(metrics["loss"], NotAdditive):
        raise UserError(
            f"{by} splits the batch, and this loss does not add over examples (it is NotAdditive): its parts add "
            "up to another loss. Use a smaller batch, or a loss that adds over examples."
        )


def merge(a: Tree, b: Tree) -> Tree:
    """Two metric states, or trees of them, as one."""
    return jax.tree.map(jnp.add, a, b)


def overlay(stats: Tree, changed: Tree) -> Tree:
    """`stats` with the changed entries in place of the old ones; an entry that was not there is an error."""
    for name in changed:
        if name not in stats:
            raise unknown("stats entry", name, stats)
    return {
        name: overlay(old, changed[name]) if name in changed and isinstance(old, dict) else changed.get(name, old)
        for name, old in stats.items()
    }
