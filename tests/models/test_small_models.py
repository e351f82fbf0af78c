"""The MLP and the CNN on the real digits."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from research.augment.image import normalize
from research.core import State, gradient, train_step
from research.model import from_nnx
from research.models.cnn import CNN
from research.models.mlp import MLP
from research.objectives.classify import classify
from research.wrappers.preprocess import preprocessed
from tests.models.fresh import fresh


@pytest.mark.parametrize(
    "build", [lambda rngs: MLP((8, 8), rngs=rngs), lambda rngs: CNN((8, 8), rngs=rngs)], ids=["mlp", "cnn"]
)
def test_it_learns_the_digits_from_a_thousand(build):
    digits = load_digits()
    x, test_x, y, test_y = train_test_split(
        digits.images.astype(np.float32), digits.target, train_size=1000, stratify=digits.target, random_state=0
    )
    model = preprocessed(from_nnx(build), lambda images: images / 16)
    params, stats = jax.jit(model.init)(jax.random.key(0))
    optimizer = optax.adam(2e-3)
    state = State(jnp.uint32(0), jnp.uint32(0), jnp.int32(0), params, stats, optimizer.init(params))
    step = jax.jit(train_step(gradient(classify(model)), optimizer))
    order = np.random.default_rng(0)
    for _ in range(200):
        rows = order.permutation(1000)[:100]
        state, _ = step(state, {"image": x[rows], "label": y[rows]})
    logits, _ = jax.jit(model.apply)(state.params, state.stats, test_x)
    assert np.mean(np.argmax(logits, -1) == test_y) > 0.95


def test_the_cnn_takes_channels_and_odd_sizes():
    model = from_nnx(lambda rngs: CNN((7, 9, 3), channels=(2, 3, 4), num_classes=6, rngs=rngs))
    params, _ = jax.eval_shape(model.init, jax.random.key(0))
    out = jax.eval_shape(lambda p: model.apply(p, {}, jnp.zeros((5, 7, 9, 3)))[0], params)
    assert out.shape == (5, 6)


def test_preprocessing_is_part_of_the_model_everywhere():
    model = preprocessed(
        from_nnx(lambda rngs: MLP((2,), num_classes=3, rngs=rngs)), lambda x: normalize(x, mean=0.5, std=2)
    )
    params, stats = fresh(model)
    plain = from_nnx(lambda rngs: MLP((2,), num_classes=3, rngs=rngs))
    x = np.array([[0, 255]], np.uint8)
    for train in (False, True):
        out = model.apply(params, stats, x, train=train, key=jax.random.key(0))[0]
        np.testing.assert_allclose(out, plain.apply(params, stats, jnp.array([[-0.25, 0.25]]))[0], rtol=1e-5)
