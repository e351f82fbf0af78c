import jax
import jax.numpy as jnp
import numpy as np

from research.core import Model
from research.wrappers.chain import chain, part


def scaled(name):
    """A model that multiplies by its weight, and counts its calls in stats."""

    def apply(params, stats, x, *, key=None, train=False):
        noise = 0 if key is None else jax.random.uniform(key)
        return x * params["w"] + noise, {name: stats[name] + 1} if train else {}

    return Model(lambda key: ({"w": jax.random.normal(key)}, {name: 0}), apply)


def test_each_model_feeds_the_next_with_params_stats_and_key_of_its_own():
    first, second = scaled("a"), scaled("b")
    model = chain(encoder=first, head=second)
    params, stats = model.init(jax.random.key(0))
    assert set(params) == {"encoder", "head"} and stats == {"a": 0, "b": 0}
    assert params["encoder"]["w"] != params["head"]["w"]
    x = jnp.arange(3.0)
    found, changed = model.apply(params, stats, x, train=True)
    np.testing.assert_allclose(found, x * params["encoder"]["w"] * params["head"]["w"])
    assert changed == {"a": 1, "b": 1} and model.apply(params, stats, x)[1] == {}
    noisy, _ = model.apply({"encoder": {"w": 0.0}, "head": {"w": 1.0}}, stats, x, key=jax.random.key(0))
    once, _ = model.apply({"encoder": {"w": 0.0}, "head": {"w": 0.0}}, stats, x, key=jax.random.key(0))
    assert noisy[0] != 2 * once[0]  # two models, two keys


def test_a_part_finds_its_params_in_the_whole():
    first = scaled("a")
    params = {"online": {"encoder": {"w": 3.0}}, "other": {}}
    found, changed = part(first, "online", "encoder")(params, {"a": 0}, jnp.ones(2), train=True)
    np.testing.assert_array_equal(found, [3, 3])
    assert changed == {"a": 1}
    assert part(first.apply)({"w": 2.0}, {"a": 0}, 1.0)[0] == 2
