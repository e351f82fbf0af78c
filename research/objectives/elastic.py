"""Elastic weight consolidation: tasks one after another, holding on to the weights that the earlier ones need."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp

from research.axes import Array, Float, Shaped
from research.core import Loss, Out, Tree, repeat, weighted_mean
from research.errors import UserError
from research.technique import Technique


def elastic(
    loss: Loss, fishers: Mapping[int, Callable], *, strength: float, decay: float = 1.0, name: str = "elastic"
) -> Technique:  # fmt: skip
    """Adds strength / 2 * sum_j F_j (w_j - anchor_j)^2 to a Loss (Kirkpatrick et al. 2017, eq. 3).

    `fishers` is {updates: fisher}: after so many updates, where one task ends and the next begins, the weights become
    the anchor, and F <- decay * F + fisher(params, stats), a tree like params: what `fisher_diagonal` gives for the
    task that has ended (one penalty for all earlier tasks, as in Schwarz et al. 2018, section 3.2; the paper keeps one
    for each). It runs inside the step, once for each task, in place of which no evaluation has to fall due.

    Keeps the entry `name` of stats, {"anchor", "fisher"} in f32; F is 0 until the first task ends, and there, as with
    strength 0, the loss is the given one. The penalty does not depend on the batch and is weighed into
    `metrics["loss"]`, so a loss that adds over examples still does; it is also the metric `elastic`.
    """

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

            # `state` is from before the update, which is number step + 1.
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
    """The scores of a softmax, rows sqrt(p_c) (one_hot(c) - p); their outer products add up to its Fisher information,
    diag(p) - p p^T."""
    p = jax.nn.softmax(logits.astype(jnp.float32))
    return jnp.sqrt(p)[:, None] * (jnp.eye(len(p)) - p)


def gaussian(deviation: float = 1.0) -> Callable[[Float[Array, " outputs"]], Float[Array, "outputs outputs"]]:
    """The scores of a normal distribution of the given standard deviation around the outputs."""
    return lambda outputs: jnp.eye(len(outputs)) / deviation


def fisher_diagonal(
    apply: Callable, inputs: Shaped[Array, "rows ..."], *, scores: Callable = categorical, microbatch: int = 50
) -> Callable[[Tree, Tree], Tree]:
    """The function (params, stats) -> diagonal of the Fisher information of a model at these weights, f32, a tree like
    params: the mean over `inputs` of  sum_k (J^T s_k)^2, J the Jacobian of the outputs.

    That is E_y[(d log p(y | x) / dw)^2] with y from the model's own distribution, computed exactly instead of drawn
    (Martens 2020, section 9; Kunstner et al. 2019 on why the data's labels will not do). `scores`, the rows s_k for
    the outputs of one example, names the distribution: `categorical`, `gaussian()`. `apply` runs outside training
    mode. Work is done for `microbatch` inputs at a time, each with one backward pass for each row. Raises UserError if
    it does not divide their number.
    """
    if len(inputs) % microbatch:
        raise UserError(f"{len(inputs)} inputs are not a multiple of the microbatch {microbatch}.")

    def fisher(params, stats):
        def squares(x):
            outputs, backward = jax.vjp(lambda params: apply(params, stats, x[None], train=False)[0][0], params)
            rows = scores(outputs).astype(outputs.dtype)
            (gradients,) = jax.vmap(backward)(rows)
            return jax.tree.map(lambda g: jnp.sum(jnp.square(g.astype(jnp.float32)), 0), gradients)

        def body(total, xs):
            found = jax.tree.map(lambda s: jnp.sum(s, 0), jax.vmap(squares)(xs))
            return jax.tree.map(jnp.add, total, found), None

        parts = jnp.asarray(inputs).reshape(-1, microbatch, *inputs.shape[1:])
        zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
        total, _ = repeat(body, zeros, parts, length=len(parts))
        return jax.tree.map(lambda t: t / len(inputs), total)

    return fisher
