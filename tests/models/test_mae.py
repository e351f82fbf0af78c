import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Ctx
from research.errors import UserError
from research.model import from_nnx
from research.models.mae import PatchDecoder, PatchEncoder, mean_pool, scatter_tokens
from research.objectives.masked_patches import masked_patches
from tests.models.fresh import fresh

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 8, 8, 1)).astype(np.float32)
KEPT = np.array([[0, 3], [1, 2]])
ENCODER = from_nnx(
    lambda rngs: PatchEncoder(size=8, patch=4, channels=1, width=8, depth=1, heads=2, rngs=rngs), name="encoder"
)
DECODER = from_nnx(
    lambda rngs: PatchDecoder(size=8, patch=4, channels=1, inputs=8, width=12, depth=1, heads=2, rngs=rngs)
)
PARAMS = {"encoder": fresh(ENCODER)[0], "decoder": fresh(DECODER)[0]}


@jax.jit
def predictions(images, kept):
    tokens, _ = ENCODER.apply(PARAMS["encoder"], {}, images, kept)
    return DECODER.apply(PARAMS["decoder"], {}, tokens, kept)[0]


def changed(place):
    """The images with other pixels in the patch number `place`."""
    y, x = 4 * (place // 2), 4 * (place % 2)
    images = X.copy()
    images[:, y : y + 4, x : x + 4] += 1 + RNG.normal(size=(4, 4, 1))
    return images


def test_visible_patches_alone_reach_the_encoder():
    before = np.asarray(predictions(X, KEPT))
    assert before.shape == (2, 4, 16)
    for place in range(4):
        after = np.asarray(predictions(changed(place), KEPT))
        for image in range(2):
            differs = (after[image] != before[image]).any(-1)
            assert differs.all() if place in KEPT[image] else not differs.any()


def test_all_patches_in_order_are_what_it_sees_without_a_choice():
    whole, _ = jax.jit(lambda x: ENCODER.apply(PARAMS["encoder"], {}, x))(X)
    chosen, _ = jax.jit(lambda x, k: ENCODER.apply(PARAMS["encoder"], {}, x, k))(X, np.tile(np.arange(4), (2, 1)))
    np.testing.assert_allclose(whole, chosen, rtol=1e-5, atol=1e-5)
    vector, _ = jax.jit(mean_pool(ENCODER))(PARAMS["encoder"], {}, X)
    np.testing.assert_allclose(vector, np.asarray(whole).mean(1), rtol=1e-4, atol=1e-5)
    # Which order they come in does not matter: a token knows its place.
    backwards, _ = jax.jit(lambda x, k: ENCODER.apply(PARAMS["encoder"], {}, x, k))(X, np.tile([3, 2, 1, 0], (2, 1)))
    np.testing.assert_allclose(np.asarray(backwards)[:, ::-1], chosen, rtol=1e-4, atol=1e-5)
    assert (np.asarray(whole)[:, 0] != np.asarray(whole)[:, 1]).any()


def test_tokens_go_back_to_their_places():
    tokens = jnp.asarray(RNG.normal(size=(3, 5, 2)).astype(np.float32))
    order = np.stack([RNG.permutation(9) for _ in range(3)])
    kept, fill = order[:, :5], jnp.array([7.0, 8.0])
    found = np.asarray(scatter_tokens(tokens, kept, count=9, fill=fill))
    np.testing.assert_array_equal(np.take_along_axis(found, kept[..., None], 1), tokens)
    assert (np.take_along_axis(found, order[:, 5:, None], 1) == np.array([7.0, 8.0])).all()
    assert found.shape == (3, 9, 2)


def test_both_halves_learn_from_the_loss_and_the_mask_moves():
    loss = masked_patches(ENCODER, DECODER, patch=4, ratio=0.5)
    run = jax.jit(jax.value_and_grad(
        lambda params, key: loss(params, Ctx({"image": X}, {}, key, jnp.int32(0)))[0]
    ))  # fmt: skip
    one, grads = run(PARAMS, jax.random.key(0))
    other, _ = run(PARAMS, jax.random.key(1))
    assert one != other and all(np.asarray(g).any() for g in jax.tree.leaves(grads) if g.ndim > 1)
    assert np.asarray(grads["decoder"]["hidden"]).any()


def test_patches_that_do_not_tile_are_an_error():
    with pytest.raises(UserError, match="patches of 3 pixels do not tile an image of 8"):
        jax.eval_shape(from_nnx(lambda rngs: PatchEncoder(size=8, patch=3, rngs=rngs)).init, jax.random.key(0))
