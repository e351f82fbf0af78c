import jax
import numpy as np

from research.layers.pooling import global_max
from research.model import from_nnx
from research.models.fashion_cnn import FashionCNN


def test_the_maximum_and_its_gradient_shared_by_equal_places():
    x = np.float32([[[1, 5], [3, 2], [3, 4]]])
    slope = jax.grad(lambda x: global_max(x).sum())
    value, found = jax.jit(lambda x: (global_max(x), slope(x)))(x)
    np.testing.assert_array_equal(value, [[3, 5]])
    shared = [[[0, 1], [0.5, 0], [0.5, 0]]]
    np.testing.assert_array_equal(found, shared)


def test_the_gradient_is_finite_when_xla_computes_the_argument_twice():
    """As jax 0.12 does with few optimisations in this network: it was NaN."""
    model = from_nnx(lambda rngs: FashionCNN(width=8, rngs=rngs))
    params, stats = jax.jit(model.init)(jax.random.key(0))
    x = np.random.default_rng(1).uniform(size=(20, 28, 28, 1)).astype(np.float32)
    loss = lambda params: (model.apply(params, stats, x, train=True)[0] ** 2).mean()
    assert jax.tree.all(jax.tree.map(lambda g: np.isfinite(g).all(), jax.jit(jax.grad(loss))(params)))
