"""Elastic weight consolidation: learn tasks in sequence and protect the weights that earlier tasks need."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Shaped
from research.core import Loss, Out, Tree, repeat, weighted_mean
from research.errors import UserError, check_range
from research.technique import Technique


def elastic(
    loss: Loss, fishers: Mapping[int, Callable], *, strength: float, decay: float = 1.0, name: str = "elastic"
) -> Technique:  # fmt: skip
    """Add the penalty strength / 2 * sum_j F_j (w_j - anchor_j)^2 to a Loss (Kirkpatrick et al. 2017, eq. 3).

    `fishers` is {updates: fisher}. After that number of updates, at the boundary between two tasks, the current weights
    become the anchor, and F <- decay * F + fisher(params, stats). `fisher` returns a tree like params: the result of
    `fisher_diagonal` for the task that has ended. There is one penalty for all earlier tasks, as in Schwarz
    et al. 2018, section 3.2; the paper uses one per task. The Fisher information is computed inside the train step,
    once per task, so no evaluation has to be scheduled at the boundary.

    Effect on `stats`: the entry `name` holds {"anchor", "fisher"} in f32. Limit: F is 0 until the first task ends;
    until then, and with strength 0, the loss equals the wrapped one. The penalty does not depend on the batch. It is
    weighted into `metrics["loss"]`, so a loss that adds over examples still does. It is also the metric `elastic`.

    Raises UserError for a negative strength or decay.
    """
    check_range("elastic", strength=(strength, 0, math.inf), decay=(decay, 0, math.inf))

    def memory(key, params):
        full = jax.tree.map(lambda x: x.astype(jnp.float32), params)
        return {"anchor": full, "fisher": jax.tree.map(jnp.zeros_like, full)}

    def after(state, params):
        entry = state.stats[name]
        for updates, fisher in fishers.items():

            def consolidated(entry, fisher=fisher):
                new = fisher(params, state.stats)
                total = jax.tree.map(lambda f, g: decay * f + g.astype(jnp.float32), entry["fisher"], new)
                return {"anchor": jax.tree.map(lambda x: x.astype(jnp.float32), params), "fisher": total}

            # `state` is from before the current update, whose number is step + 1.
            entry = jax.lax.cond(state.step + 1 == updates, consolidated, lambda entry: entry, entry)
        return {name: entry}

    def penalized(params, ctx):
        _, out = loss(params, ctx)
        entry = ctx.stats[name]
        parts = jax.tree.map(
            lambda p, a, f: jnp.sum(f * jnp.square(p.astype(jnp.float32) - a)),
            params, entry["anchor"], entry["fisher"],
        )  # fmt: skip
        penalty = strength / 2 * sum(jax.tree.leaves(parts))
        mean = out.metrics["loss"]
        mean = mean._replace(sum=mean.sum + penalty * mean.weight)
        metrics = {**out.metrics, "loss": mean, "elastic": weighted_mean(penalty, mean.weight)}
        return mean.value(), Out(out.stats, metrics)

    return Technique(name, memory=memory, after=after, loss=penalized)


def categorical(logits: Float[Array, " classes"]) -> Float[Array, "classes classes"]:
    """Compute the scores of a softmax distribution: rows sqrt(p_c) (one_hot(c) - p).

    Their outer products add up to its Fisher information, diag(p) - p p^T.
    """
    p = jax.nn.softmax(logits.astype(jnp.float32))
    return jnp.sqrt(p)[:, None] * (jnp.eye(len(p)) - p)


def gaussian(deviation: float = 1.0) -> Callable[[Float[Array, " outputs"]], Float[Array, "outputs outputs"]]:
    """Make the function of scores of a normal distribution around the outputs, with this standard deviation."""
    return lambda outputs: jnp.eye(len(outputs)) / deviation


def fisher_diagonal(
    apply: Callable, inputs: Shaped[Array, "rows ..."], *, scores: Callable = categorical, microbatch: int = 50
) -> Callable[[Tree, Tree], Tree]:
    """Make a function (params, stats) -> diagonal of a model's Fisher information, a tree like params in f32.

    It is the mean over `inputs` of sum_k (J^T s_k)^2, with J the Jacobian of the outputs. This equals E_y[(d log
    p(y | x) / dw)^2] with y from the model's own distribution, computed exactly instead of by sampling (Martens 2020,
    section 9; Kunstner et al. 2019 explain why the data's labels must not be used). `scores` returns the rows s_k for
    the outputs of one example, and thereby selects the distribution: `categorical` or `gaussian()`.

    `apply` runs in evaluation mode. `microbatch` inputs are processed at a time, each with one backward pass per row
    s_k. Raises UserError if `microbatch` does not divide the number of inputs.
    """
    if len(inputs) % microbatch:
        raise UserError(f"{len(inputs)} inputs are not a multiple of microbatch={microbatch}; choose a divisor.")

    def fisher(params, stats):
        def squares(x):
            outputs, backward = jax.vjp(lambda params: apply(params, stats, x[None], train=False)[0][0], params)
            rows = scores(outputs).astype(outputs.dtype)
            (gradients,) = jax.vmap(backward)(rows)
            return jax.tree.map(lambda g: jnp.sum(jnp.square(g.astype(jnp.float32)), 0), gradients)

        def body(total, xs):
            microbatch_sum = jax.tree.map(lambda s: jnp.sum(s, 0), jax.vmap(squares)(xs))
            return jax.tree.map(jnp.add, total, microbatch_sum), None

        parts = jnp.asarray(inputs).reshape(-1, microbatch, *inputs.shape[1:])
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        total, _ = repeat(body, zeros, parts, length=len(parts))
        return jax.tree.map(lambda t: t / len(inputs), total)

    return fisher
