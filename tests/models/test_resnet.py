import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from research.errors import UserError
from research.model import from_nnx
from research.models.resnet import ConvNorm, ResNet, cifar_resnet
from tests.models.fresh import fresh

X = np.random.default_rng(0).normal(size=(2, 16, 16, 3)).astype(np.float32)


def applied(**arguments):
    model = from_nnx(lambda rngs: ResNet(**{"blocks": (1, 1), "width": 4, "stem": "small", **arguments}, rngs=rngs))
    return model, *fresh(model)


def test_with_zero_init_every_block_starts_as_its_shortcut():
    model, params, stats = applied(zero_init=True, shortcut="A")
    starts = jax.jit(
        lambda key: [block["layers"]["1"]["norm"]["scale"] for block in model.init(key)[0]["blocks"].values()]
    )
    for block, start in zip(params["blocks"].values(), starts(jax.random.key(0)), strict=True):
        block["layers"]["1"]["norm"] = {"scale": start, "bias": jnp.zeros_like(start)}
    params["stem"]["norm"] = {"scale": jnp.ones(4), "bias": jnp.zeros(4)}
    out = jax.jit(lambda x: model.apply(params, stats, x)[0])(X)
    stem = jax.nn.relu(
        jax.lax.conv_general_dilated(
            X, params["stem"]["conv"]["kernel"], (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        / np.sqrt(1 + 1e-5)
    )
    # Option A: every second pixel, zero channels on both sides.
    shortcut = jnp.pad(stem[:, ::2, ::2], ((0, 0), (0, 0), (0, 0), (2, 2)))
    expected = shortcut.mean((1, 2)) @ params["head"]["kernel"] + params["head"]["bias"]
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_only_option_b_has_parameters_in_its_shortcuts():
    assert "projection" not in applied(shortcut="A")[1]["blocks"]["1"]
    params = applied(shortcut="B")[1]["blocks"]
    assert params["1"]["projection"]["conv"]["kernel"].shape == (1, 1, 4, 8) and "projection" not in params["0"]


def test_training_changes_every_running_statistic_and_evaluation_none():
    model, params, stats = applied(bottleneck=True, stem="large")
    _, changed = jax.jit(lambda x: model.apply(params, stats, x, train=True))(X)
    pairs = jax.tree.leaves(jax.tree.map(lambda a, b: bool((np.asarray(a) != b).any()), stats, changed))
    assert len(pairs) == 18 and all(pairs)
    assert jax.eval_shape(lambda x: model.apply(params, stats, x)[1], X) == {}


@pytest.mark.parametrize("size", [1, 3, 7])
def test_a_strided_convolution_sees_the_pixels_that_its_shortcut_keeps(size):
    # Padded on one side only, as "SAME" does when it strides, it would lie one pixel beside the shortcut.
    common = {"size": size, "group_size": None}
    whole, strided = (from_nnx(lambda rngs, s=s: ConvNorm(3, 4, strides=s, **common, rngs=rngs)) for s in (1, 2))
    params, stats = fresh(whole)
    expected, found = (jax.jit(lambda x, m=m: m.apply(params, stats, x)[0])(X) for m in (whole, strided))
    np.testing.assert_allclose(found, expected[:, ::2, ::2], atol=1e-5)


def test_the_group_size_reaches_every_norm():
    model = from_nnx(lambda rngs: cifar_resnet(8, width=2, group_size=1, shortcut="B", rngs=rngs))
    params, stats = fresh(model)
    grouped = jax.jit(lambda x: model.apply(params, stats, x, train=True)[0])
    # With groups of one example, an example's output does not depend on its neighbours.
    np.testing.assert_allclose(grouped(X)[0], grouped(np.stack([X[0], 5 * X[1] + 1]))[0], atol=1e-5)


def test_unknown_options_are_errors():
    with pytest.raises(UserError, match="shortcut='C'"):
        ResNet(blocks=(1,), shortcut="C", rngs=nnx.Rngs(0))
