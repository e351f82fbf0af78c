import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import State, draw, gradient, train_step
from research.errors import UserError
from research.gradients.sharpness import asam, sam
from research.optim.decay import decay_mask
from tests.gradients.toy import BATCH, KEY, LOSS, NOISY, PARAMS, STATS, apart, close, ctx


def test_sam_is_optax_contribs_in_its_opaque_mode():
    climb = optax.chain(optax.contrib.normalize(), optax.sgd(0.3))
    theirs = optax.contrib.sam(optax.adam(0.1), climb, sync_period=2, opaque_mode=True)
    plain = gradient(LOSS)

    @jax.jit
    def their_step(params, opt):
        grad_fn = lambda params, i: plain(params, ctx())[0]
        updates, opt = theirs.update(grad_fn(params, 0), opt, params, grad_fn=grad_fn)
        return optax.apply_updates(params, updates), opt

    optimizer = optax.adam(0.1)
    ours = jax.jit(train_step(sam(plain, rho=0.3), optimizer))
    params, opt = PARAMS, jax.device_get(theirs.init(PARAMS))
    state = State(np.uint32(0), np.uint32(0), np.int32(0), PARAMS, STATS, jax.device_get(optimizer.init(PARAMS)))
    for _ in range(3):
        params, opt = jax.device_get(their_step(params, opt))
        state, _ = jax.device_get(ours(state, BATCH))
    close(state.params, params, rtol=1e-4)
    assert apart(state.params, PARAMS) > 0.1


def test_asam_is_the_formula_in_numpy():
    grad_fn, rho, eta = jax.jit(gradient(LOSS)), 0.4, 0.02
    leaves, form = jax.tree.flatten(PARAMS)
    kernels = ["kernel" in jax.tree_util.keystr(path) for path, _ in jax.tree.leaves_with_path(PARAMS)]
    assert kernels == [False, True, False, True]
    grads = [np.asarray(g, np.float64) for g in jax.tree.leaves(grad_fn(PARAMS, ctx())[0])]
    for mask, scaled in ((None, [True] * 4), (decay_mask(), kernels)):
        t = [abs(np.asarray(p)) + eta if yes else 1.0 for p, yes in zip(leaves, scaled, strict=True)]
        norm = np.sqrt(sum(np.sum((a * g) ** 2) for a, g in zip(t, grads, strict=True)))
        above = [p + rho * a**2 * g / norm for p, a, g in zip(leaves, t, grads, strict=True)]
        expected, _ = grad_fn(form.unflatten(above), ctx())
        found, _ = jax.jit(asam(grad_fn, rho=rho, eta=eta, mask=mask))(PARAMS, ctx())
        close(found, expected, rtol=1e-4)


def test_asam_does_not_see_a_rescaling_that_leaves_the_function_alone():
    def climbed(estimator, a, b):
        seen = []

        def product(params, ctx):
            seen.append(params["a"] * params["b"])
            return {"a": params["b"], "b": params["a"]}, None

        estimator(product)({"a": jnp.float32(a), "b": jnp.float32(b)}, ctx())
        return float(seen[1])

    adaptive, plain = lambda f: asam(f, rho=0.1, eta=0), lambda f: sam(f, rho=0.1)
    assert np.isclose(climbed(adaptive, 2, 3), climbed(adaptive, 20, 0.3), rtol=1e-5)
    assert abs(climbed(plain, 2, 3) - climbed(plain, 20, 0.3)) > 0.1


@pytest.mark.parametrize("estimator", [sam, asam])
def test_both_passes_draw_the_same_and_stats_and_metrics_are_of_the_first(estimator):
    calls = []

    def watching(params, ctx):
        grads, out = gradient(NOISY)(params, ctx)
        calls.append((params, ctx))
        return grads, out

    run = jax.jit(lambda key: estimator(watching, rho=0.5)(PARAMS, ctx(key=key)))
    grads, out = run(KEY)
    (first, one), (second, two) = calls
    assert first is PARAMS and second is not PARAMS and one is two
    plain, first_out = jax.jit(gradient(NOISY))(PARAMS, ctx())
    close(out, first_out)
    assert out.stats["seen"] == 1 and apart(grads, plain) > 0.01
    assert apart(grads, run(draw(KEY, 1))[0]) > 0.01


def test_at_a_stationary_point_nothing_moves_and_dtypes_stay():
    still = lambda params, ctx: (jax.tree.map(lambda p: 0 * p, params), None)  # nan, were the second params nan
    half = jax.tree.map(lambda p: p.astype(jnp.bfloat16), PARAMS)
    for estimator in (sam, asam):
        grads, _ = jax.device_get(jax.jit(estimator(still, rho=0.5))(half, ctx()))
        assert all(g.dtype == jnp.bfloat16 and np.all(g == 0) for g in jax.tree.leaves(grads))
        with pytest.raises(UserError, match="rho is -1"):
            estimator(still, rho=-1)
