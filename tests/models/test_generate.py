import jax
import jax.numpy as jnp
import numpy as np

from research.core import Trained
from research.models.generate import generate


def successor(params, stats, tokens, *, train=False):
    """A language model that is sure that the next token is one more, and cannot look ahead."""
    return 50.0 * jax.nn.one_hot((tokens + 1) % 7, 7), {}


def pair(params, stats, tokens, *, train=False):
    """One that gives 1 three times as often as 0."""
    return jnp.broadcast_to(jnp.log(jnp.array([0.25, 0.75])), (*tokens.shape, 2)), {}


def test_prompts_are_kept_and_completed():
    prompts = np.array([[3, 0, 0, 0, 0, 0], [1, 5, 2, 0, 0, 0]])
    for temperature in (0.0, 1.0):
        found = jax.jit(
            lambda p, t=temperature: generate(
                Trained(successor, {}, {}), prompts=p, lengths=jnp.array([1, 3]), key=jax.random.key(0), temperature=t
            )
        )(prompts)
        np.testing.assert_array_equal(found, [[3, 4, 5, 6, 0, 1], [1, 5, 2, 3, 4, 5]])


def test_samples_follow_the_distribution_and_the_temperature():
    def ones(temperature):
        prompts, lengths = jnp.zeros((64, 65), jnp.int32), jnp.ones(64, jnp.int32)
        key = jax.random.key(0)
        found = generate(Trained(pair, {}, {}), prompts=prompts, lengths=lengths, key=key, temperature=temperature)
        found = np.asarray(found[:, 1:])
        # Every token is drawn anew: no row is all ones (chance 1e-8 each).
        assert not temperature or temperature < 1 or (found.min(1) == 0).all()
        return found.mean()

    assert abs(ones(1.0) - 0.75) < 0.03  # seven standard errors
    assert abs(ones(0.5) - 0.9) < 0.03  # 9 : 1
    assert ones(0.0) == 1
