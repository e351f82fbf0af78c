"""The shared step, and the few types that everything else is made of.

    Loss    = (params, Ctx)    -> (scalar, Out)       what is minimised
    GradFn  = (params, Ctx)    -> (grads, Out)        how its gradient is estimated
    After   = (State, params)  -> stats               what follows an update: a moving average, a queue
    Source  = step             -> batch               pure and random-access: nothing to restore
    Step    = (State, batch)   -> (State, metrics)    what the loop calls
    View    = State            -> (params, stats)     which weights an evaluation sees
    Observe = (State, results) -> State | Stop        decisions that depend on evaluations

Invariants. A Loss is pure and draws its randomness from `ctx.key` alone. The tree, shapes and dtypes of
`stats` never change. Every metric is a state whose leaves add up (`Mean`, a confusion matrix, ...), so that
batches, devices and processes of any size merge exactly; `metrics["loss"]` is a `Mean`, and the scalar that a
Loss returns is its value.
"""

import zlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from research.errors import UserError, unknown

Tree = Any  # nested dicts of arrays


class State(NamedTuple):
    """The whole checkpoint. `seed` and `salt` are u32 numbers, never keys; `step` counts optimizer steps."""

    seed: jax.Array
    salt: jax.Array
    step: jax.Array
    params: Tree
    stats: Tree
    opt: Tree


class Ctx(NamedTuple):
    """All that a Loss may read besides params."""

    batch: Mapping[str, jax.Array]
    stats: Tree
    key: jax.Array
    step: jax.Array


class Out(NamedTuple):
    """What a Loss gives back besides its value: the stats entries it changed, and its metric states."""

    stats: Tree
    metrics: Mapping[str, Any]


class Mean(NamedTuple):
    """A weighted mean that is still open: `sum` (an array or a tree of arrays) over `weight`. States add up."""

    sum: Tree
    weight: jax.Array

    def value(self) -> Tree:
        """The quotient, in the precision of the sums (f64 on the host); 0 where nothing had weight."""
        return jax.tree.map(lambda x: x / (self.weight + (self.weight == 0)), self.sum)


class Whole(Mean):
    """The Mean of a loss that does not add over examples: `metrics["loss"]` of a contrastive loss, and the like."""


class Rows(NamedTuple):
    """Per-example results of an evaluation, {name: [B, ...]}; rows with mask 0 are padding and are dropped."""

    values: Mapping[str, jax.Array]
    mask: jax.Array


class Stop(NamedTuple):
    """What an Observe returns to end the run early: the state to keep, and the reason in words."""

    state: State
    reason: str


Loss = Callable[[Tree, Ctx], tuple[jax.Array, Out]]
GradFn = Callable[[Tree, Ctx], tuple[Tree, Out]]
After = Callable[[State, Tree], Tree]
Source = Callable[[int], Mapping[str, Any]]
Step = Callable[[State, Any], tuple[State, Mapping[str, Any]]]
View = Callable[[State], tuple[Tree, Tree]]
Observe = Callable[[State, Mapping[str, Any]], State | Stop]


def live(state: State) -> tuple[Tree, Tree]:
    """The View of the weights as they are."""
    return state.params, state.stats


class Eval(NamedTuple):
    """One evaluation set: `measure(apply, params, stats, batch)` gives {name: metric state | Rows}.

    `finish(results)` turns them into numbers, texts or pictures on the host; `every` is a Duration, or None
    for the end of the run only.
    """

    source: Source
    measure: Callable[..., Mapping[str, Any]]
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


def _loss(metrics):
    if not isinstance(metrics.get("loss"), Mean):
        raise UserError(f'a Loss must give metrics["loss"] as a Mean; it gave {sorted(metrics)}.')
    return metrics["loss"].value()


def eval_step(apply, measure):
    """The sibling of `train_step`: (params, stats, totals, batch) -> (totals, rows). Never calls the loss."""

    def step(params, stats, totals, batch):
        measured = measure(apply, params, stats, batch)
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


def repeat(body, carry, xs=None, *, length=None):
    """`lax.scan`, or the same unrolled where that is faster; the only loop that combinators may use.

    On CPU a convolution inside a loop runs some twenty times slower than outside it, so there it unrolls.
    """
    unroll = False
    if jax.default_backend() == "cpu":
        first = jax.tree.map(lambda x: x[0], xs)
        unroll = "conv_general_dilated" in str(jax.make_jaxpr(body)(carry, first))
    return jax.lax.scan(body, carry, xs, length=length, unroll=unroll)


def draw(key, *path):
    """A key for the place that `path` names: names and numbers are folded in one by one.

    `key` is a key or a seed number. A vector of n numbers gives n keys, one for each position.
    """
    if not jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key):
        key = jax.random.key(key)
    for part in path:
        part = jnp.asarray(zlib.crc32(part.encode()) if isinstance(part, str) else part, jnp.uint32)
        key = jax.vmap(jax.random.fold_in, (None, 0))(key, part) if part.ndim else jax.random.fold_in(key, part)
    return key


def weighted_mean(values: Tree, weights: jax.Array) -> Mean:
    """The open Mean of every leaf over its leading `weights.ndim` axes, in f32.

    Entries of weight 0 do not count even when they are not finite: they are padding.
    """
    weights = jnp.asarray(weights, jnp.float32)

    def total(x):
        w = weights.reshape(weights.shape + (1,) * (x.ndim - weights.ndim))
        return jnp.sum(jnp.where(w == 0, 0, x.astype(jnp.float32) * w), axis=tuple(range(weights.ndim)))

    return Mean(jax.tree.map(total, values), jnp.sum(weights))


def whole(mean: Mean) -> Whole:
    """`mean`, marked as that of a loss of the batch as a whole."""
    return Whole(*mean)


def check_additive(metrics, *, by: str):
    """Raises UserError, while tracing, where `metrics["loss"]` is Whole; `by` is what would split the batch."""
    if isinstance(metrics["loss"], Whole):
        raise UserError(
            f"{by} splits the batch, and this loss does not add over examples (it is a Whole): the parts would be "
            "trained on another loss. Use a smaller batch, or a loss that adds over examples."
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
