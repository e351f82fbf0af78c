import jax
import numpy as np
import pytest
from flax import nnx

from research.errors import UserError
from research.layers.positions import sincos2d
from research.model import from_nnx
from research.models.vit import ViT, patches
from tests.models.fresh import fresh

X = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
TINY = {"size": 8, "patch": 4, "width": 8, "depth": 1, "heads": 2, "num_classes": 3}


def test_patches_and_a_matrix_are_a_strided_convolution():
    kernel = np.random.default_rng(1).normal(size=(4, 4, 3, 5)).astype(np.float32)
    images = np.random.default_rng(2).normal(size=(2, 8, 12, 3)).astype(np.float32)
    expected = jax.lax.conv_general_dilated(images, kernel, (4, 4), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))
    np.testing.assert_allclose(
        patches(images, 4) @ kernel.reshape(-1, 5), expected.reshape(2, 6, 5), rtol=1e-4, atol=1e-4
    )


def test_positions_of_a_grid():
    found = np.asarray(sincos2d(3, 8))
    y, x, frequency = 1, 2, np.array([1, 1e-4])
    expected = np.concatenate(
        [np.sin(x * frequency), np.cos(x * frequency), np.sin(y * frequency), np.cos(y * frequency)]
    )
    assert found.shape == (9, 8)
    np.testing.assert_allclose(found[y * 3 + x], expected, atol=1e-6)


@pytest.mark.parametrize("positions", ["learned", "sincos2d"])
@pytest.mark.parametrize("pool", ["cls", "gap"])
def test_every_part_reaches_the_representation(positions, pool):
    model = from_nnx(lambda rngs: ViT(**TINY, positions=positions, pool=pool, representation=6, rngs=rngs))
    params, _ = fresh(model)
    assert params["head"]["kernel"].shape == (6, 3)
    applied = jax.jit(lambda images: model.apply(params, {}, images)[0])
    logits = np.asarray(applied(X))
    # Without positions, patches in another order would give the same.
    swapped = np.concatenate([X[:, 4:], X[:, :4]], 1)
    assert logits.shape == (2, 3) and abs(logits - applied(swapped)).max() > 1e-3
    expected = {("learned", "cls"): (5, 8), ("learned", "gap"): (4, 8)}.get((positions, pool))
    assert (params["positions"].shape if "positions" in params else None) == expected
    assert ("cls" in params) == (pool == "cls")


def test_the_head_starts_at_zero():
    model = from_nnx(lambda rngs: ViT(**TINY, rngs=rngs))
    assert not np.asarray(jax.jit(lambda key: model.init(key)[0]["head"]["kernel"])(jax.random.key(0))).any()


def test_what_does_not_fit_is_an_error():
    with pytest.raises(UserError, match="patches of 16 pixels do not tile an image of 100"):
        ViT(size=100, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="pool='map'"):
        ViT(pool="map", rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="width 6; expected 8, 12"):
        sincos2d(2, 6)
