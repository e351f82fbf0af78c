"""Every algorithm in the limit in which it is plain gradient descent, one line each.

Two steps of descent with momentum on ragged batches, for a loss that is deterministic and adds over examples. A line
gives the params and the last loss; all of them are those of `core.gradient` on one device.
"""

import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from research.core import State, gradient, many, train_step
from research.distributed.sharding import make_mesh, place
from research.gradients.accumulate import accumulate
from research.gradients.averaged import averaged
from research.gradients.compressed import error_feedback, top_k
from research.gradients.delayed import delayed
from research.gradients.federated import federated
from research.gradients.private import private
from research.gradients.sharpness import asam, sam
from research.objectives.adversarial import adversarial
from research.objectives.classify import classify
from research.objectives.maml import maml
from tests.gradients import toy

OPTIMIZER = optax.sgd(0.1, momentum=0.9)
# Six of eight rows count, three in each half; of the first batch's four microbatches one is empty.
MASKS = np.array([[1, 1, 0, 1, 1, 1, 0, 1], [0, 1, 1, 1, 1, 1, 1, 0]], np.float32)
BATCHES = [{**toy.BATCH, "x": toy.BATCH["x"] * scale, "mask": mask} for scale, mask in zip((1, 2), MASKS, strict=True)]
LOSS = classify(lambda params, stats, x, **how: toy.apply(params, stats, x), inputs="x", labels="y")
PLAIN = gradient(LOSS)


def state(technique=None):
    stats = {technique.name: technique.memory(toy.KEY, toy.PARAMS)} if technique and technique.memory else {}
    opt = OPTIMIZER.init(toy.PARAMS)
    return State(jnp.uint32(5), jnp.uint32(0), jnp.int32(0), toy.PARAMS, stats, opt)


def descend(grad_fn, technique=None, *, step=jax.jit, start=state, batch=lambda batch: batch):
    """(params, the last loss) of a grad_fn; `step` maps or compiles the train step, `batch` gives it its form."""
    step, now = step(train_step(grad_fn, OPTIMIZER)), start(technique)
    for fields in BATCHES:
        now, metrics = step(now, batch(fields))
    return now.params, metrics["loss"]


def apart(batch, *form):
    """[8, ...] -> [*form, ...]."""
    return jax.tree.map(lambda x: x.reshape(*form, *x.shape[1:]), batch)


def on_pmap(grad_fn):
    copies = jax.tree.map(lambda x: np.stack([x] * 4), state())
    mapped = lambda step: jax.pmap(step, axis_name="data")
    found = descend(grad_fn, step=mapped, start=lambda _: copies, batch=lambda batch: apart(batch, 4, 2))
    return jax.tree.map(lambda x: x[3], jax.device_get(found))


def on_shard_map(grad_fn):
    mesh = make_mesh({"data": -1})
    mapped = lambda step: jax.jit(jax.shard_map(step, mesh=mesh, in_specs=(P(), P("data")), out_specs=P()))
    return descend(grad_fn, step=mapped, start=lambda _: on_all(state(), mesh))


def on_all(now, mesh):
    """Copies on all devices, as a step leaves them: so it compiles once."""
    return jax.device_put(now, NamedSharding(mesh, P()))


def on_vmap(grad_fn):
    def whole(params, ctx):
        part = lambda batch: grad_fn(params, ctx._replace(batch=batch))
        return jax.tree.map(lambda x: x[0], jax.vmap(part, axis_name="data")(apart(ctx.batch, 4, 2)))

    return descend(whole)


def on_mesh(grad_fn):
    mesh = make_mesh({"data": -1})
    return descend(grad_fn, start=lambda _: on_all(state(), mesh), batch=lambda batch: place(batch, mesh))


def in_one_dispatch(grad_fn):
    stacked = jax.tree.map(lambda *x: np.stack(x), *BATCHES)
    now, _ = jax.jit(many(train_step(grad_fn, OPTIMIZER), 2))(state(), stacked)
    return now.params, descend(PLAIN)[1]  # the metrics of many are of both batches


def remembering(made):
    return descend(made.grad_fn, made)


def clients(grad_fn, number=2):
    """Each client has its part of the batch, and takes one step."""
    return descend(federated(grad_fn, optax.sgd(1.0)), batch=lambda batch: apart(batch, number, 1, 8 // number))


def tasks(loss):
    return descend(gradient(loss), batch=lambda batch: {f"{part}_{name}": x for name, x in apart(batch, 4, 2).items()
                                                        for part in ("support", "query")})  # fmt: skip


def fgsm(loss, epsilon=0.0):
    return adversarial(loss, epsilon=epsilon, steps=2, bounds=(-10, 10), inputs="x")


def unhidden(loss, expected):
    return private(loss, clip=math.inf, noise=0, expected=expected)


LIMITS = {
    "accumulate(1)": lambda: descend(accumulate(PLAIN, 1)),
    "accumulate(2)": lambda: descend(accumulate(PLAIN, 2)),
    "accumulate(4)": lambda: descend(accumulate(PLAIN, 4)),
    "sam(rho=0)": lambda: descend(sam(PLAIN, rho=0)),
    "asam(rho=0)": lambda: descend(asam(PLAIN, rho=0)),
    "delayed(0)": lambda: remembering(delayed(PLAIN, steps=0)),
    "top_k(1)": lambda: remembering(top_k(PLAIN, fraction=1)),
    "fed_back(nothing lost)": lambda: remembering(error_feedback(PLAIN, lambda key, x: x)),
    "averaged in vmap": lambda: on_vmap(averaged(PLAIN, axis="data")),
    "averaged in pmap": lambda: on_pmap(averaged(PLAIN, axis="data")),
    "averaged in shard_map": lambda: on_shard_map(averaged(PLAIN, axis="data")),
    "four devices": lambda: on_mesh(PLAIN),
    "many(2)": lambda: in_one_dispatch(PLAIN),
    "private(clip=inf, noise=0)": lambda: descend(unhidden(LOSS, expected=6)),
    "federated(one step of sgd(1))": lambda: clients(PLAIN),
    "adversarial(epsilon=0)": lambda: descend(gradient(fgsm(LOSS))),
    "maml(learning_rate=0)": lambda: tasks(maml(LOSS, learning_rate=0.0)),
    "accumulate in pmap": lambda: on_pmap(averaged(accumulate(PLAIN, 2), axis="data")),
    "accumulate of sam(rho=0) on four devices": lambda: on_mesh(accumulate(sam(PLAIN, rho=0), 2)),
    "federated(private(adversarial))": lambda: clients(unhidden(fgsm(LOSS), expected=3)),
}


@pytest.fixture(scope="module")
def plain():
    return descend(PLAIN)


@pytest.mark.parametrize("name", LIMITS)
def test_in_its_limit_it_is_plain_gradient_descent(name, plain):
    toy.close(LIMITS[name](), plain)


def test_the_plain_descent_is_that_of_numpy(plain):
    """So that the table does not compare a mistake with itself: the bias of the head, by hand, for one step."""
    params, batch = jax.tree.map(np.asarray, toy.PARAMS), BATCHES[0]
    hidden = np.tanh(batch["x"] @ params["hidden"]["kernel"] + params["hidden"]["bias"])
    logits = hidden @ params["head"]["kernel"] + params["head"]["bias"]
    chances = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    residual = (chances - np.eye(4)[batch["y"]]) * batch["mask"][:, None]
    found, out = jax.jit(PLAIN)(toy.PARAMS, toy.ctx(batch))
    np.testing.assert_allclose(found["head"]["bias"], residual.sum(0) / 6, rtol=1e-5)
    np.testing.assert_allclose(found["head"]["kernel"], hidden.T @ residual / 6, rtol=1e-4, atol=1e-6)
    assert out.metrics["loss"].weight == 6 and toy.apart(plain[0], toy.PARAMS) > 0.05


def test_federated_private_adversarial_training_runs_and_its_noise_moves():
    inner = private(fgsm(LOSS, epsilon=0.1), clip=1.0, noise=0.5, expected=3)
    run = jax.jit(federated(inner, optax.sgd(0.1)))
    batch = apart(BATCHES[0], 2, 1, 4)
    found = [run(toy.PARAMS, toy.ctx(batch, key=jax.random.key(i)))[0] for i in (0, 0, 1)]
    assert all(np.isfinite(x).all() for x in jax.tree.leaves(found))
    assert toy.apart(found[0], found[1]) == 0 and toy.apart(found[0], found[2]) > 1e-3
