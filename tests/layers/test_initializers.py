import jax
import numpy as np

from research.layers.initializers import he_normal


def test_it_gives_the_numbers_of_jax():
    key, shape = jax.random.key(3), (3, 3, 4, 5)
    np.testing.assert_array_equal(he_normal()(key, shape), jax.nn.initializers.he_normal()(key, shape))
