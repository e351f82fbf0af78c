"""The shared train step and the core types. Read this file first.

    Loss    = (params, Ctx)    -> (scalar, Out)       the objective to minimise
    GradFn  = (params, Ctx)    -> (grads, Out)        a gradient estimator
    After   = (State, params)  -> stats               a hook after each update: a moving average, a queue
    Source  = step             -> batch               pure and random-access: no iterator state to restore
    Step    = (State, batch)   -> (State, metrics)    one call of the training loop
    View    = State            -> (params, stats)     the weights that an evaluation uses
    Observe = (State, results) -> State | Stop        a hook after evaluations: a plateau rule, early stopping
    Measure = (Trained, batch) -> {name: metric}      metric states, which an evaluation sums; Rows, which it collects
    Model   = init, apply                             two pure functions over plain nested dicts
    Trained = apply, params, stats                    a network with its weights; trained(x) is its output

Invariants:
  - A Loss is pure. Its only source of randomness is `ctx.key`.
  - The tree structure, shapes and dtypes of `stats` never change.
  - Every metric is a state with additive leaves (a `Mean`, a confusion matrix, ...). Metrics therefore merge
    exactly over batches, devices and processes of any size.
  - `metrics["loss"]` is a `Mean`, and its value equals the scalar that the Loss returns.
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
Batch = Mapping[str, Shaped[Array, "batch ..."]]  # {field: array}; the leading axis is examples, clients or tasks


class State(NamedTuple):
    """The complete training state, and the content of a checkpoint.

    `seed` and `salt` are integers, never PRNG keys; `salt` changes the random numbers after a rollback. `step` counts
    optimizer steps. `stats` holds every array that the optimizer does not train: batch statistics and the entries of
    techniques. `opt` is the state of the optimizer.
    """

    seed: UInt32[Array, ""]
    salt: UInt32[Array, ""]
    step: Int[Array, ""]
    params: Tree
    stats: Tree
    opt: Tree


class Model(NamedTuple):
    """A network as two pure functions.

    init(key)                                            -> (params, stats)
    apply(params, stats, *inputs, key=None, train=False) -> (outputs, changed stats)
    """

    init: Callable[[Key[Array, ""]], tuple[Tree, Tree]]
    apply: Callable[..., tuple[Any, Tree]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Trained:
    """A network with its weights: the argument of evaluations, predictions and analyses.

    `trained(*inputs)` returns the output in evaluation mode. A Trained is a pytree of `params` and `stats`, and can be
    passed through `jax.jit`, `jax.grad` and `jax.vmap`; `apply` is static. Use `dataclasses.replace` to change a part.
    """

    apply: Callable[..., tuple[Any, Tree]] = dataclasses.field(metadata={"static": True})
    params: Tree = dataclasses.field(repr=False)
    stats: Tree = dataclasses.field(repr=False)

    def __call__(self, *inputs: Tree) -> Tree:
        return self.apply(self.params, self.stats, *inputs, train=False)[0]


class Ctx(NamedTuple):
    """The inputs of a Loss other than params."""

    batch: Batch
    stats: Tree
    key: Key[Array, ""]
    step: Int[Array, ""]


class Out(NamedTuple):
    """The auxiliary output of a Loss: the `stats` entries that it changed, and its metric states by name."""

    stats: Tree
    metrics: Mapping[str, Any]


class Mean(NamedTuple):
    """A weighted mean as an additive state: `sum` divided by `weight`. Add two states leaf by leaf to merge them."""

    sum: PyTree[Float[Array, "..."]]
    weight: Float[Array, ""]

    def value(self) -> Tree:
        """Return `sum / weight` in the precision of the sums (f64 on the host), or 0 if the total weight is 0."""
        return jax.tree.map(lambda x: x / (self.weight + (self.weight == 0)), self.sum)


class NotAdditive(Mean):
    """The Mean of a loss that is not a sum over examples, such as a contrastive loss.

    A transformation that splits the batch refuses such a loss: see `check_additive`.
    """


class Rows(NamedTuple):
    """Per-example results of an evaluation. Rows with mask 0 are padding and are dropped."""

    values: Batch
    mask: Float[Array, " batch"]


class Stop(NamedTuple):
    """The result of an Observe that ends the run early: the state to keep, and the reason as a sentence."""

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
    """Return the current params and stats: the default View."""
    return state.params, state.stats


class Eval(NamedTuple):
    """One evaluation set and its metrics.

    `measure(trained, batch)` returns {name: metric state | Rows} for a `Trained`. `finish(results)` runs on the host
    after the last batch and returns further numbers, texts or arrays. `every` is a Duration; None evaluates only at
    the end of the run. `view` selects the weights, such as an exponential moving average.
    """

    source: Source
    measure: Measure
    every: Any = None
    view: View = live
    finish: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None


def gradient(loss: Loss) -> GradFn:
    """Return the GradFn that computes the exact gradient of a Loss. Every other GradFn equals it in a limit."""

    def grad_fn(params, ctx):
        (_, out), grads = jax.value_and_grad(loss, has_aux=True)(params, ctx)
        return grads, out

    return grad_fn


def train_step(grad_fn: GradFn, optimizer: optax.GradientTransformation, after: tuple[After, ...] = ()) -> Step:
    """Return the train step that all training methods share.

    The step estimates a gradient, applies the optimizer, overlays the changed `stats` and calls the `after` hooks in
    order. The optimizer receives the loss as `value`. Each hook receives the state before the update, with the stats
    that the loss and earlier hooks changed, and the params after the update. The key of a step depends only on the
    seed, the salt and the step number.

    While tracing, the step raises UserError if `metrics["loss"]` is not a Mean or if an entry of the changed stats is
    new.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def step(state, batch):
        key = draw(state.seed, "step", state.salt, state.step)
        grads, out = grad_fn(state.params, Ctx(batch, state.stats, key, state.step))
        updates, opt = optimizer.update(grads, state.opt, state.params, value=_loss(out.metrics))
        params = optax.apply_updates(state.params, updates)
        stats = overlay(state.stats, out.stats)
        for hook in after:
            stats = overlay(stats, hook(state._replace(stats=stats), params))
        return state._replace(step=state.step + 1, params=params, stats=stats, opt=opt), out.metrics

    return step


def _loss(metrics: Mapping[str, Any]) -> Scalar:
    if not isinstance(metrics.get("loss"), Mean):
        raise UserError(f'a Loss must return metrics["loss"] as a Mean; it returned the metrics {sorted(metrics)}.')
    return metrics["loss"].value()


def eval_step(apply: Callable, measure: Measure) -> Callable:
    """Return the evaluation step: (params, stats, total, batch) -> (total, rows). It never calls the loss.

    The step adds the metric states of the batch to the Total and returns the Rows separately.
    """

    def step(params, stats, total, batch):
        measured = measure(Trained(apply, params, stats), batch)
        rows = {name: state for name, state in measured.items() if isinstance(state, Rows)}
        states = {name: state for name, state in measured.items() if name not in rows}
        return total.plus(states), rows

    return step


def many(step: Step, k: int) -> Step:
    """Run `k` steps in one dispatch, over batches stacked on a leading axis of size `k`; metrics are summed.

    Equals `k` calls of `step`.
    """

    def steps(state, batches):
        state, metrics = repeat(step, state, batches, length=k)
        return state, jax.tree.map(lambda x: x.sum(0), metrics)

    return steps


def repeat(
    body: Callable, carry: Tree, xs: Tree = None, *, length: int | None = None, reverse: bool = False
) -> tuple[Tree, Tree]:
    """Call `lax.scan`, unrolled if that is faster. Combinators must use this loop and no other.

    On CPU, XLA runs a convolution inside a loop about twenty times slower than outside. A body with a convolution is
    therefore unrolled there.
    """
    unroll = False
    if jax.default_backend() == "cpu":
        first = jax.tree.map(lambda x: x[0], xs)
        unroll = "conv_general_dilated" in str(jax.make_jaxpr(body)(carry, first))
    return jax.lax.scan(body, carry, xs, length=length, reverse=reverse, unroll=unroll)


def draw(
    key: Key[Array, ""] | Integer[Array, ""] | int, *path: str | int | Integer[Array, ""] | Integer[Array, " places"]
) -> Key[Array, ""] | Key[Array, " places"]:
    """Derive a PRNG key by folding each name and number of `path` into `key`, in order.

    `key` is a PRNG key or an integer seed. A name counts as its CRC32: two names give different keys, except with a
    probability of 2 ** -32. If the last element of the path is a vector, the result is one key per entry.
    """
    if not jnp.issubdtype(jnp.asarray(key).dtype, jax.dtypes.prng_key):
        key = jax.random.key(key)
    for part in path:
        part = jnp.asarray(zlib.crc32(part.encode()) if isinstance(part, str) else part, jnp.uint32)
        key = jax.vmap(jax.random.fold_in, (None, 0))(key, part) if part.ndim else jax.random.fold_in(key, part)
    return key


def weighted_mean(values: PyTree[Num[Array, "..."]], weights: Num[Array, "*batch"] | Bool[Array, "*batch"]) -> Mean:
    """Return the Mean of every leaf over its leading axes `*batch`, weighted, in f32.

    Entries of weight 0 are padding and contribute nothing, even if they are NaN or infinite.
    """
    weights = jnp.asarray(weights, jnp.float32)

    def total(x):
        w = weights.reshape(weights.shape + (1,) * (x.ndim - weights.ndim))
        return jnp.sum(jnp.where(w == 0, 0, x.astype(jnp.float32) * w), axis=tuple(range(weights.ndim)))

    return Mean(jax.tree.map(total, values), jnp.sum(weights))


def not_additive(mean: Mean) -> NotAdditive:
    """Mark `mean` as the mean of a loss that is not a sum over examples."""
    return NotAdditive(*mean)


def check_additive(metrics: Mapping[str, Any], *, by: str) -> None:
    """Raise UserError, while tracing, if `metrics["loss"]` is NotAdditive. `by` names the caller in the message."""
    if isinstance(metrics["loss"], NotAdditive):
        raise UserError(
            f"{by} splits the batch, but this loss is not a sum over examples (it is NotAdditive): the sum over parts "
            "of the batch is a different loss. Use a smaller batch, or a loss that is a sum over examples."
        )


def merge(a: Tree, b: Tree) -> Tree:
    """Merge two metric states, or two trees of metric states, by adding their leaves."""
    return jax.tree.map(jnp.add, a, b)


def overlay(stats: Tree, changed: Tree) -> Tree:
    """Return `stats` with the changed entries replaced, recursively. Raises UserError for an entry that is new."""
    for name in changed:
        if name not in stats:
            raise unknown("stats entry", name, stats)
    return {
        name: overlay(old, changed[name]) if name in changed and isinstance(old, dict) else changed.get(name, old)
        for name, old in stats.items()
    }
