import jax
import jax.numpy as jnp
import numpy as np

from research.layers.pooling import global_max
from research.model import from_nnx
from research.models.fashion_cnn import FashionCNN


def test_the_maximum_and_its_gradient_shared_by_equal_places():
    x = jnp.asarray([[[1, 5], [3, 2], [3, 4]]], jnp.float32)
    np.testing.assert_array_equal(global_max(x), [[3, 5]])
    shared = [[[0, 1], [0.5, 0], [0.5, 0]]]
    np.testing.assert_array_equal(jax.grad(lambda x: global_max(x).sum())(x), shared)


def test_the_gradient_is_finite_when_xla_computes_the_argument_twice():
    """As jax 0.12 does with few optimisations in this network: it was NaN."""
    model = from_nnx(lambda rngs: FashionCNN(width=8, rngs=rngs))
    params, stats = model.init(jax.random.key(0))
    x = jax.random.uniform(jax.random.key(1), (20, 28, 28, 1))
    loss = lambda params: (model.apply(params, stats, x, train=True)[0] ** 2).mean()
    assert jax.tree.all(jax.tree.map(lambda g: jnp.isfinite(g).all(), jax.jit(jax.grad(loss))(params)))
