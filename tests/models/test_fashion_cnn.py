"""The networks of the Fashion-MNIST experiments against the same written with lax alone."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Model
from research.errors import UserError
from research.model import from_nnx
from research.models.fashion_cnn import FashionCNN, FashionPyramid, space_to_depth
from research.wrappers.test_time import mirror_averaged
from tests.models.fresh import fresh

X = np.random.default_rng(0).normal(size=(3, 28, 28, 1)).astype(np.float32)


def conv(x, layer, strides=1, padding=(1, 1), size=3):
    """A convolution padded by one pixel on every side, and the BatchNorm of an untrained network."""
    dimensions, kernel = ("NHWC", "HWIO", "NHWC"), layer["conv"]["kernel"]
    kernel = kernel.reshape(size, size, -1, kernel.shape[-1])
    x = jax.lax.conv_general_dilated(x, kernel, (strides,) * 2, (padding,) * 2, dimension_numbers=dimensions)
    return x / np.sqrt(1 + 1e-5) * layer["norm"]["scale"] + layer["norm"]["bias"]


def test_it_equals_the_same_network_written_with_lax():
    model = from_nnx(lambda rngs: FashionCNN(width=8, num_classes=5, rngs=rngs))
    params, stats = fresh(model)
    # By strided slices: rows and columns of pixels in the order (0, 0), (0, 1), (1, 0), (1, 1).
    x = jnp.concatenate([X[:, i::2, j::2] for i in range(2) for j in range(2)], axis=-1)
    x = jax.nn.relu(conv(x, params["stem"]))
    x = jax.nn.relu(conv(x, params["down"], strides=2))
    first, second = params["block"]["layers"].values()
    x = jax.nn.relu(x + conv(jax.nn.relu(conv(x, first)), second))
    assert x.shape == (3, 7, 7, 8)
    features = jnp.concatenate([x.max((1, 2)), x.mean((1, 2))], axis=-1)
    expected = features @ params["head"]["kernel"] + params["head"]["bias"]
    out = jax.jit(lambda x: model.apply(params, stats, x)[0])(X)
    assert out.shape == (3, 5)
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-5)


def test_parameters():
    params, stats = jax.eval_shape(from_nnx(lambda rngs: FashionCNN(rngs=rngs)).init, jax.random.key(0))
    # Kernels of 3 x 3, a scale and a bias for each of their channels, and the head.
    kernels = 9 * (4 * 64 + 64 * 128 + 128 * 128 + 128 * 128)
    count = sum(x.size for x in jax.tree.leaves(params))
    assert count == kernels + 2 * (64 + 3 * 128) + 256 * 10 + 10 == 374_410
    assert sum(x.size for x in jax.tree.leaves(stats)) == 2 * (64 + 3 * 128)


def test_the_pyramid_equals_the_same_network_written_with_lax():
    model = from_nnx(lambda rngs: FashionPyramid(widths=(4, 6, 8), dense=7, num_classes=5, rngs=rngs))
    params, stats = fresh(model)
    x = jnp.concatenate([X[:, i::2, j::2] for i in range(2) for j in range(2)], axis=-1)
    x = jax.nn.relu(conv(x, params["stem"]))
    for odd, layer in zip((0, 1), params["merges"].values(), strict=True):
        x = jax.nn.relu(conv(x, layer, strides=2, padding=(0, odd), size=2))
    x = x + jax.nn.relu(conv(x, params["residual"], padding=(0, 0), size=1))
    assert x.shape == (3, 4, 4, 8)
    whole = jax.nn.relu(conv(x, params["dense"], padding=(0, 0), size=4))
    assert whole.shape == (3, 1, 1, 7)
    expected = jnp.concatenate([x.max((1, 2)), x.mean((1, 2)), whole[:, 0, 0]], axis=-1) @ params["head"]["kernel"]
    out = jax.jit(lambda x: model.apply(params, stats, x)[0])(X)
    np.testing.assert_allclose(out, expected + params["head"]["bias"], rtol=1e-4, atol=1e-5)
    params, _ = jax.eval_shape(from_nnx(lambda rngs: FashionPyramid(rngs=rngs)).init, jax.random.key(0))
    kernels = 9 * 4 * 48 + 4 * (48 * 96 + 96 * 160) + 160 * 160 + 16 * 160 * 160
    count = sum(x.size for x in jax.tree.leaves(params))
    assert count == kernels + 2 * (48 + 96 + 3 * 160) + 480 * 10 + 10 == 522_858
    odd = from_nnx(lambda rngs: FashionPyramid(size=20, channels=3, dense=7, rngs=rngs))  # 10, 5 and 3 places
    out = jax.eval_shape(lambda x: odd.apply(*odd.init(jax.random.key(0)), x)[0], jnp.zeros((2, 20, 20, 3)))
    assert out.shape == (2, 10)
    with pytest.raises(UserError, match="images of 28 x 28 pixels; expected size=20"):
        jax.eval_shape(lambda x: odd.apply(*odd.init(jax.random.key(0)), x)[0], jnp.zeros((2, 28, 28, 3)))


def test_images_of_odd_sizes_are_refused():
    model = from_nnx(lambda rngs: FashionCNN(width=8, rngs=rngs))
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    for shape in ((2, 27, 28, 1), (2, 28, 27, 1)):
        with pytest.raises(UserError, match=f"images of {shape[1]} x {shape[2]} pixels; expected an even height and"):
            jax.eval_shape(lambda *args: model.apply(*args, train=True), params, stats, np.zeros(shape, np.float32))


def test_space_to_depth_keeps_channels_together():
    x = np.arange(2 * 4 * 6 * 3).reshape(2, 4, 6, 3)
    out = np.asarray(space_to_depth(jnp.asarray(x)))
    assert out.shape == (2, 2, 3, 12)
    np.testing.assert_array_equal(out[1, 1, 2], x[1, 2:4, 4:6].ravel())


def test_mirrored_models_judge_an_image_and_its_mirror_alike_and_train_as_before():
    plain = from_nnx(lambda rngs: FashionCNN(width=8, rngs=rngs))
    model = mirror_averaged(plain)
    params, stats = fresh(plain)
    evaluate = jax.jit(lambda x: model.apply(params, stats, x)[0])
    one = jax.jit(lambda x: plain.apply(params, stats, x)[0])
    np.testing.assert_allclose(evaluate(X), (one(X) + one(X[:, :, ::-1])) / 2, rtol=1e-5, atol=1e-6)
    both = [jax.jit(lambda x, m=m: m.apply(params, stats, x, train=True))(X) for m in (model, plain)]
    jax.tree.map(np.testing.assert_array_equal, *both)


def test_shifted_views_are_a_quarter_each_of_the_outputs():
    # A model that tells one pixel: of a view that is the pixel which has moved there.
    model = Model(lambda key: ({}, {}), lambda params, stats, x, key=None, train=False: (x[:, 5, 9, 0], {}))
    found = mirror_averaged(model, shift=2).apply({}, {}, X)[0]
    views = [(0.5, 5, 9), (0.25, 3, 7), (0.25, 7, 11)]
    expected = sum(w / 2 * (X[:, i, j, 0] + X[:, i, 27 - 9 - (9 - j), 0]) for w, i, j in views)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    corner = Model(lambda key: ({}, {}), lambda params, stats, x, key=None, train=False: (x[:, 0, 0, 0], {}))
    # Beyond the edge its pixels are repeated.
    views = [(0.5, (0, 0), (0, 27)), (0.25, (0, 0), (0, 25)), (0.25, (2, 2), (2, 27))]
    expected = sum(w / 2 * (X[:, *plain, 0] + X[:, *mirror, 0]) for w, plain, mirror in views)
    np.testing.assert_allclose(mirror_averaged(corner, shift=2).apply({}, {}, X)[0], expected, rtol=1e-6)
