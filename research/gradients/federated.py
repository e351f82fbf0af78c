"""Federated learning: one step is a round; clients train separately and the server averages their changes."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from research.axes import Array, Float, Key, PyTree, Shaped
from research.core import Batch, Ctx, GradFn, Mean, Out, Tree, draw, merge, overlay, repeat, weighted_mean
from research.errors import UserError, unknown
from research.gradients.accumulate import select_entries
from research.tree import path_name


def plain_mean(
    updates: PyTree[Float[Array, "clients ..."]], weights: Float[Array, " clients"], key: Key[Array, ""]
) -> Mean:
    """Average the clients' `updates` by `weights` without protection: the default `aggregate`."""
    return weighted_mean(updates, weights)


def federated(
    grad_fn: GradFn,
    optimizer: optax.GradientTransformation,
    *,
    proximal: float = 0.0,
    aggregate: Callable = plain_mean,
    at_once: int | None = None,
    keep: tuple[str, ...] = (),
) -> GradFn:
    """Return the pseudo-gradient of a round: server params minus the weighted mean of the clients' final params.

    Fields of the batch, `mask` included, are [clients, steps, batch, ...]. Every client starts from the server's params
    and stats with a fresh state of `optimizer`. It takes one optimizer step per batch, on the gradient of `grad_fn`.
    The server's optimizer is that of the experiment: sgd(1.0) yields FedAvg (McMahan et al. 2017, algorithm 1), adam
    yields FedAdam (Reddi et al. 2021, algorithm 2). `proximal` adds proximal * (params - server's params) to every
    local gradient: FedProx (Li et al. 2020, equation 2). The metrics do not include this penalty.

    A client's weight is the sum of `metrics["loss"].weight` over its steps: its real examples (tokens, for a language
    model), each counted as often as the client trained on it. A step of weight 0 is padding: it changes nothing and its
    metrics are omitted. A client of weight 0 changes nothing, even if its data are not finite. Metrics are summed over
    clients and steps, so `loss` is the mean loss during local training.

    Effect on `stats`: a client sees its own changes during the round. After the round, floats (batch statistics) move
    by the weighted mean of the clients' changes; signed integers move by the same mean, rounded. Other types, and the
    entries named in `keep`, do not change.

    `aggregate(updates, weights, key) -> Mean`, such as `secure`, receives the clients' updates stacked. `at_once`
    limits memory: that many clients train in parallel, and the Means of the groups are added. The key of a local step
    is `draw(key, "client", index, "step", number)`. `ctx.step` is the round; a schedule in `optimizer` restarts every
    round.

    Limit: with one local step of optax.sgd(1.0) it equals the gradient of `grad_fn` on the complete batch, if the loss
    adds over examples. A loss that does not add (a contrastive one) is computed per client. If the clients' gradients
    are `private`, their weights are still public, and so is the information which of their steps were empty: empty
    steps get no noise.

    Raises UserError, while tracing, if fields disagree on [clients, steps], if `at_once` does not divide the clients,
    and if `keep` names an entry that stats lack.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def shared(stats):
        return {name: x for name, x in stats.items() if name not in keep}

    def pseudo_gradient(params, ctx):
        clients, local_steps = _leading_sizes(ctx.batch)
        group_size = clients if at_once is None else at_once
        if group_size < 1 or clients % group_size:
            raise UserError(f"at_once={at_once} does not divide the {clients} clients of a round; use a divisor.")
        for name in keep:
            if name not in ctx.stats:
                raise unknown("stats entry to keep", name, ctx.stats)
        first_batch = ctx._replace(batch=jax.tree.map(lambda x: x[0, 0], ctx.batch))
        # Only the entries that training changes.
        server = select_entries(ctx.stats, jax.eval_shape(grad_fn, params, first_batch)[1].stats)

        def client(position, batch):
            key = draw(ctx.key, "client", position)

            def step(carry, inputs):
                # Carry the displacement from the server's params, not the params: small changes keep their precision,
                # and FedProx penalises the displacement.
                delta, opt, stats = carry
                number, fields = inputs
                local_params = optax.apply_updates(params, delta)
                inner = Ctx(fields, overlay(ctx.stats, stats), draw(key, "step", number), ctx.step)
                grads, out = grad_fn(local_params, inner)
                if proximal:
                    grads = jax.tree.map(lambda g, w: g + (proximal * w).astype(g.dtype), grads, delta)
                updates, new_opt = optimizer.update(grads, opt, local_params, value=out.metrics["loss"].value())
                new_delta = jax.tree.map(lambda w, u: w + u.astype(w.dtype), delta, updates)
                real = out.metrics["loss"].weight > 0
                new = (new_delta, new_opt, overlay(stats, out.stats))
                carry = jax.tree.map(lambda a, b: jnp.where(real, a, b), new, carry)
                return carry, jax.tree.map(lambda x: jnp.where(real, x, 0), out.metrics)

            zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
            start = (zeros, optimizer.init(params), server)
            (delta, _, stats), metrics = repeat(step, start, (jnp.arange(local_steps), batch), length=local_steps)
            metrics = jax.tree.map(lambda x: x.sum(0), metrics)
            return (delta, _stat_changes(shared(server), shared(stats))), metrics["loss"].weight, metrics

        def group(positions, batch):
            updates, weights, metrics = jax.vmap(client)(positions, batch)
            mean = aggregate(updates, weights, draw(ctx.key, "aggregate", positions[0]))
            return mean, jax.tree.map(lambda x: x.sum(0), metrics)

        all_clients = (jnp.arange(clients), ctx.batch)
        if group_size == clients:
            mean, metrics = group(*all_clients)
        else:
            # Group g holds the clients g, g + groups, ..., so every device holds clients of every group.
            rounds = jax.tree.map(lambda x: x.reshape(group_size, -1, *x.shape[1:]).swapaxes(0, 1), all_clients)
            initial = jax.tree.map(
                lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(group, *jax.tree.map(lambda x: x[0], rounds))
            )
            (mean, metrics), _ = repeat(lambda sums, xs: (merge(sums, group(*xs)), None), initial, rounds)
        delta, changes = mean.value()
        grads = jax.tree.map(lambda w, p: (-w).astype(p.dtype), delta, params)
        # Clients may be split into groups even if the loss of each is NotAdditive, so the mean loss is a plain Mean.
        return grads, Out(_apply_changes(shared(server), changes), {**metrics, "loss": Mean(*metrics["loss"])})

    return pseudo_gradient


def _leading_sizes(batch: Batch) -> tuple[int, ...]:
    """Return (clients, steps) of a batch. Raises UserError if its fields disagree."""
    sizes = {path_name(path): tuple(x.shape[:2]) for path, x in jax.tree.leaves_with_path(batch)}
    size, *conflicting = set(sizes.values())
    if conflicting or len(size) != 2:
        raise UserError(f"a federated batch needs fields [clients, local_steps, B, ...]; these begin with {sizes}.")
    return size


def _is_averaged(x: Shaped[Array, "..."] | jax.ShapeDtypeStruct) -> bool:
    """Whether a leaf of stats moves by the mean of the clients' changes."""
    return jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.signedinteger)


def _stat_changes(old: Tree, new: Tree) -> list[Float[Array, "..."]]:
    """Return the differences of the averaged leaves, in f32."""
    pairs = zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
    return [(_to_f32(b) - _to_f32(a)).astype(jnp.float32) for a, b in pairs if _is_averaged(a)]


def _apply_changes(old: Tree, changes: list[Float[Array, "..."]]) -> Tree:
    """Add the changes to the averaged leaves of `old`."""
    leaves, treedef = jax.tree.flatten(old)
    changes = iter(changes)

    def apply(x):
        change = next(changes)
        change = change if jnp.issubdtype(x.dtype, jnp.floating) else jnp.round(change).astype(x.dtype)
        return (_to_f32(x) + change).astype(x.dtype)

    return treedef.unflatten([apply(x) if _is_averaged(x) else x for x in leaves])


def _to_f32(x: Shaped[Array, "*entry"]) -> Shaped[Array, "*entry"]:
    return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x
