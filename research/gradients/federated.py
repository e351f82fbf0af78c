"""Federated learning: a step is a round, in which clients train apart and the server averages what they changed."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from research.axes import Array, Float, Key, PyTree, Shaped
from research.core import Batch, Ctx, GradFn, Mean, Out, Tree, draw, merge, overlay, repeat, weighted_mean
from research.errors import UserError, unknown
from research.gradients.accumulate import restricted
from research.tree import path_name


def in_the_clear(
    updates: PyTree[Float[Array, "clients ..."]], weights: Float[Array, " clients"], key: Key[Array, ""]
) -> Mean:
    """The plain `aggregate`: the open Mean of `updates` by `weights`."""
    return weighted_mean(updates, weights)


def federated(
    grad_fn: GradFn,
    optimizer: optax.GradientTransformation,
    *,
    proximal: float = 0.0,
    aggregate: Callable = in_the_clear,
    at_once: int | None = None,
    keep: tuple[str, ...] = (),
) -> GradFn:
    """The pseudo-gradient of a round: the server's params minus the mean of the params that its clients end with.

    Fields of the batch (`mask` too) are [clients, steps, batch, ...]. Every client starts from the server's params
    and stats with a fresh state of `optimizer`, and takes a step of it on the gradient of `grad_fn` for each of its
    batches. The server's optimizer is that of the experiment: sgd(1.0) gives FedAvg (McMahan et al. 2017, algorithm
    1), adam gives FedAdam (Reddi et al. 2021, algorithm 2). `proximal` adds proximal * (params - server's params) to
    every local gradient: FedProx (Li et al. 2020, equation 2), whose penalty is not in the metrics.

    A client weighs as much as its losses together, the sum of their `metrics["loss"].weight`: its real examples
    (tokens, for a language model), each counted as often as it was trained on. A step without weight is padding: it
    changes nothing and its metrics are left out; a client without any changes nothing, even where its data are not
    finite. Metrics are summed over clients and steps, so `loss` is that met on the way.

    The rule for `stats`: a client sees its own changes during the round. Then floats (batch statistics) move by the
    weighted mean of the clients' changes, and signed integers by the same, rounded; other types, and the entries
    named in `keep`, stay as they were.

    `aggregate(updates, weights, key) -> Mean`, such as `secure`, takes the clients' updates stacked. `at_once` trains
    that many clients side by side, to bound memory; the Means of such groups are added up. The key of a local
    step is `draw(key, "client", position, "step", number)`. `ctx.step` is the round, and a schedule in `optimizer`
    starts anew in each.

    Limit: with one local step of optax.sgd(1.0) it is the gradient of `grad_fn` for the whole batch, if the loss adds
    over examples. Losses that do not (contrastive ones) are taken client by client. Of clients whose gradients are
    `private`, the weights are public, and which of their steps were empty: these get no noise.

    Raises UserError, while tracing, for fields that disagree on [clients, steps], an `at_once` that does not divide
    the clients, and a name in `keep` that stats lack.
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def shared(stats):
        return {name: x for name, x in stats.items() if name not in keep}

    def pseudo_gradient(params, ctx):
        clients, local_steps = _form(ctx.batch)
        together = clients if at_once is None else at_once
        if together < 1 or clients % together:
            raise UserError(f"at_once={at_once} does not divide the {clients} clients of a round.")
        for name in keep:
            if name not in ctx.stats:
                raise unknown("stats entry to keep", name, ctx.stats)
        one = ctx._replace(batch=jax.tree.map(lambda x: x[0, 0], ctx.batch))
        server = restricted(ctx.stats, jax.eval_shape(grad_fn, params, one)[1].stats)  # those that training changes

        def client(position, batch):
            key = draw(ctx.key, "client", position)

            def step(carry, numbered):
                # The way gone so far is kept in place of the params: it loses no digits to their size, and is what
                # FedProx penalises.
                way, opt, stats = carry
                number, fields = numbered
                here = optax.apply_updates(params, way)
                inner = Ctx(fields, overlay(ctx.stats, stats), draw(key, "step", number), ctx.step)
                grads, out = grad_fn(here, inner)
                if proximal:
                    grads = jax.tree.map(lambda g, w: g + (proximal * w).astype(g.dtype), grads, way)
                updates, after = optimizer.update(grads, opt, here, value=out.metrics["loss"].value())
                moved = jax.tree.map(lambda w, u: w + u.astype(w.dtype), way, updates)
                real = out.metrics["loss"].weight > 0
                new = (moved, after, overlay(stats, out.stats))
                carry = jax.tree.map(lambda a, b: jnp.where(real, a, b), new, carry)
                return carry, jax.tree.map(lambda x: jnp.where(real, x, 0), out.metrics)

            still = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
            start = (still, optimizer.init(params), server)
            (way, _, stats), metrics = repeat(step, start, (jnp.arange(local_steps), batch), length=local_steps)
            metrics = jax.tree.map(lambda x: x.sum(0), metrics)
            return (way, _changes(shared(server), shared(stats))), metrics["loss"].weight, metrics

        def group(positions, batch):
            updates, weights, metrics = jax.vmap(client)(positions, batch)
            mean = aggregate(updates, weights, draw(ctx.key, "aggregate", positions[0]))
            return mean, jax.tree.map(lambda x: x.sum(0), metrics)

        everyone = (jnp.arange(clients), ctx.batch)
        if together == clients:
            mean, metrics = group(*everyone)
        else:
            # Group g holds the clients g, g + groups, ...: each device keeps its share of every group.
            rounds = jax.tree.map(lambda x: x.reshape(together, -1, *x.shape[1:]).swapaxes(0, 1), everyone)
            nothing = jax.tree.map(
                lambda x: jnp.zeros(x.shape, x.dtype), jax.eval_shape(group, *jax.tree.map(lambda x: x[0], rounds))
            )
            (mean, metrics), _ = repeat(lambda sums, xs: (merge(sums, group(*xs)), None), nothing, rounds)
        way, changes = mean.value()
        grads = jax.tree.map(lambda w, p: (-w).astype(p.dtype), way, params)
        # Clients are a batch that may be split, also where the loss of each is a whole.
        return grads, Out(_moved(shared(server), changes), {**metrics, "loss": Mean(*metrics["loss"])})

    return pseudo_gradient


def _form(batch: Batch) -> tuple[int, ...]:
    """(clients, steps) of a batch."""
    forms = {path_name(path): tuple(x.shape[:2]) for path, x in jax.tree.leaves_with_path(batch)}
    form, *others = set(forms.values())
    if others or len(form) != 2:
        raise UserError(f"a federated batch has fields [clients, local_steps, B, ...]; these begin with {forms}.")
    return form


def _moves(x: Shaped[Array, "..."] | jax.ShapeDtypeStruct) -> bool:
    """Whether clients change a leaf of stats by their mean."""
    return jnp.issubdtype(x.dtype, jnp.floating) or jnp.issubdtype(x.dtype, jnp.signedinteger)


def _changes(old: Tree, new: Tree) -> list[Float[Array, "..."]]:
    """How far the leaves that move have moved, in f32."""
    pairs = zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True)
    return [(_wide(b) - _wide(a)).astype(jnp.float32) for a, b in pairs if _moves(a)]


def _moved(old: Tree, changes: list[Float[Array, "..."]]) -> Tree:
    """`old` with those changes."""
    leaves, form = jax.tree.flatten(old)
    changes = iter(changes)

    def moved(x):
        change = next(changes)
        change = change if jnp.issubdtype(x.dtype, jnp.floating) else jnp.round(change).astype(x.dtype)
        return (_wide(x) + change).astype(x.dtype)

    return form.unflatten([moved(x) if _moves(x) else x for x in leaves])


def _wide(x: Shaped[Array, "*entry"]) -> Shaped[Array, "*entry"]:
    return x.astype(jnp.float32) if jnp.issubdtype(x.dtype, jnp.floating) else x
