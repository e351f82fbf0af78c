"""The actor-critic network: orthogonal layers, a nearly uniform first policy, and two towers that share nothing."""

import jax
import numpy as np

from research.model import from_nnx
from research.rl.actor_critic import ActorCritic


def test_it_starts_orthogonal_and_undecided():
    model = from_nnx(lambda rngs: ActorCritic((2, 3), num_actions=4, hidden=(8,), rngs=rngs))
    params, stats = model.init(jax.random.key(0))
    x = np.random.default_rng(0).normal(size=(5, 2, 3)).astype(np.float32)
    (logits, values), _ = model.apply(params, stats, x)
    assert logits.shape == (5, 4) and values.shape == (5,)
    hidden = {name: np.tanh(x.reshape(5, 6) @ params[name]["0"]["kernel"]) for name in ("actor", "critic")}
    np.testing.assert_allclose(logits, hidden["actor"] @ params["actor"]["1"]["kernel"], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(values, (hidden["critic"] @ params["critic"]["1"]["kernel"])[:, 0], rtol=1e-4, atol=1e-6)
    first = params["actor"]["0"]["kernel"]
    np.testing.assert_allclose(first @ first.T, 2 * np.eye(6), atol=1e-5)
    assert 0 < np.abs(logits).max() < 0.1 < np.abs(values).max()
    assert not np.array_equal(first, params["critic"]["0"]["kernel"])
