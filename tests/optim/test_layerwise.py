"""Learning rates by depth and by path: each update is that of the optimizer times a factor written by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.errors import UserError
from research.optim.layerwise import scale_by_depth, scale_by_path
from research.tree import path_name

PARAMS = {
    "embed": {"embedding": jnp.ones((3, 2))},
    "blocks": {str(i): {"kernel": jnp.full((2, 2), 1.0 + i), "bias": jnp.ones(2)} for i in range(3)},
    "norm": {"scale": jnp.ones(2)},
    "classifier": {"kernel": jnp.ones((2, 2))},
}
STACKED = {
    **PARAMS, "blocks": {"stacked": jax.tree.map(lambda *x: jnp.stack(x), *(PARAMS["blocks"][i] for i in "012"))}
}  # fmt: skip
DEPTH = {"embed/": 0.5**4, "blocks/0/": 0.5**3, "blocks/1/": 0.5**2, "blocks/2/": 0.5, "norm/": 1, "classifier/": 1}


def updates(optimizer, params=PARAMS, steps=2):
    """The update of the last of some steps with random gradients; those of stacked layers are the same numbers."""
    state = optimizer.init(params)
    for step in range(steps):
        draw = lambda path, x, step=step: jax.random.normal(jax.random.key(step + len(path_name(path))), x.shape)
        grads = jax.tree.map_with_path(draw, PARAMS)
        if params is STACKED:
            grads["blocks"] = {"stacked": jax.tree.map(lambda *x: jnp.stack(x), *(grads["blocks"][i] for i in "012"))}
        found, state = optimizer.update(grads, state, params)
    return found


def assert_scaled(found, base, factors):
    assert jax.tree.structure(found) == jax.tree.structure(base)
    for (path, x), y in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(base), strict=True):
        factor = next(f for start, f in factors.items() if path_name(path).startswith(start))
        np.testing.assert_array_equal(x, y * factor)


def test_by_depth_each_update_has_the_factor_of_its_level():
    base = optax.adamw(0.1, weight_decay=0.2)
    found = updates(optax.chain(base, scale_by_depth(0.5)))
    assert_scaled(found, updates(base), DEPTH)


def test_stacked_layers_have_the_factors_of_a_list():
    base = optax.adamw(0.1, weight_decay=0.2)
    found, expected = (updates(optax.chain(base, scale_by_depth(0.5)), params) for params in (STACKED, PARAMS))
    for i in range(3):
        layer = jax.tree.map(lambda x, i=i: x[i], found["blocks"]["stacked"])
        jax.tree.map(np.testing.assert_array_equal, layer, expected["blocks"][str(i)])
    np.testing.assert_array_equal(found["embed"]["embedding"], expected["embed"]["embedding"])


def test_without_decay_nothing_changes():
    base = optax.sgd(0.1, momentum=0.9)
    jax.tree.map(np.testing.assert_array_equal, updates(optax.chain(base, scale_by_depth(1.0))), updates(base))


def test_by_path_the_first_pattern_decides():
    base = optax.sgd(0.1)
    found = updates(optax.chain(base, scale_by_path({"blocks/0/.*bias": 4.0, "blocks/": 0.25, "^embed/": 0.0})))
    assert_scaled(found, updates(base), {"embed/": 0, "blocks/0/bias": 4, "blocks/": 0.25, "": 1})


def test_the_type_of_an_update_stays():
    half = {"blocks": {"stacked": jnp.ones((2, 3), jnp.bfloat16)}}
    tuned = scale_by_depth(0.5, layers=r"blocks/(?P<layer>\w+)")
    found, _ = tuned.update(half, tuned.init(half))
    assert found["blocks"]["stacked"].dtype == jnp.bfloat16
    np.testing.assert_array_equal(found["blocks"]["stacked"].astype(np.float32), [[0.25] * 3, [0.5] * 3])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: scale_by_depth(0.0), r"scale_by_depth\(decay=0.0\); expected a number above 0 and at most 1"),
        (lambda: scale_by_depth(1.5), r"scale_by_depth\(decay=1.5\)"),
        (lambda: scale_by_depth(0.5, layers="blocks/"), "expected a group"),
        (lambda: scale_by_depth(0.5, layers=r"layers/(?P<layer>\d+)/"), r"scale_by_depth: .* matches no parameter"),
        (lambda: scale_by_path({"normm/scale": 2.0}), "'normm/scale' matches no parameter. Did you mean 'norm/scale'"),
    ],
)
def test_errors(make, message):
    with pytest.raises(UserError, match=message):
        make().init(PARAMS)
