"""The ring against a list of the last transitions, and how evenly it is drawn from."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.rl.acting import Trajectory
from research.rl.environment import Environment, Transition
from research.rl.replay import push, replay

KEY = jax.random.key(0)


def pictures():
    """An environment whose observations are uint8 pictures: they are kept as they are."""
    observe = lambda state: jnp.zeros((2, 2), jnp.uint8)
    step = lambda state, action, key: Transition(state, observe(state), jnp.float32(0), jnp.bool_(0), jnp.bool_(0))
    return Environment(lambda key: jnp.int32(0), step, observe, num_actions=2)


def trajectory(number, length=3, count=2):
    """A rollout whose every field names its transition: number * 6 + row, in the order of time."""
    names = number * length * count + jnp.arange(length * count).reshape(length, count)
    picture = jnp.broadcast_to(names[..., None, None], (length, count, 2, 2)).astype(jnp.uint8)
    terminated = names % 3 == 0
    return Trajectory(picture, names, -names.astype(jnp.float32), terminated, ~terminated, picture + 1, {})


def test_the_ring_holds_the_last_transitions_in_order():
    memory = replay(pictures(), capacity=18, size=5, updates=4)
    ring = memory.memory(KEY, None)
    assert ring["rows"]["observation"].shape == (18, 2, 2) and ring["rows"]["observation"].dtype == jnp.uint8
    pushed = jax.jit(push)
    kept = []
    for number in range(8):
        ring = pushed(ring, trajectory(number))
        kept = [*kept, *range(number * 6, number * 6 + 6)][-18:]
        assert ring["held"] == len(kept) and ring["next"] == (number + 1) * 6 % 18
        order = np.roll(np.asarray(ring["rows"]["action"]), -int(ring["next"]))[18 - len(kept) :]
        np.testing.assert_array_equal(order, kept)
    rows = jax.tree.map(np.asarray, ring["rows"])
    np.testing.assert_array_equal(rows["reward"], -rows["action"])
    np.testing.assert_array_equal(rows["terminated"], rows["action"] % 3 == 0)
    np.testing.assert_array_equal(rows["observation"][:, 1, 1], rows["action"])
    np.testing.assert_array_equal(rows["next_observation"][:, 0, 1], rows["action"] + 1)


def test_batches_are_drawn_evenly_from_what_is_held_and_wait_until_it_is_warm():
    memory = replay(pictures(), capacity=18, size=500, updates=4, warm=12, name="ring")
    state = SimpleNamespace(stats={"ring": memory.memory(KEY, None)})
    draw_from = jax.jit(lambda stats, t, key: memory.use(SimpleNamespace(stats=stats), t, key=key))
    changed, rows = draw_from(state.stats, trajectory(0), jax.random.key(1))
    assert changed["ring"]["held"] == 6 and rows["action"].shape == (4, 500) and not rows["mask"].any()
    assert set(np.unique(rows["action"])) == set(range(6))  # nothing from what is not filled yet
    changed, rows = draw_from(changed, trajectory(1), jax.random.key(2))
    assert rows["mask"].all() and rows["mask"].shape == (4, 500)
    counts = np.bincount(np.ravel(rows["action"]), minlength=12)
    np.testing.assert_allclose(counts / 2000, 1 / 12, atol=0.03)
    np.testing.assert_array_equal(rows["reward"], -rows["action"])
    assert not np.array_equal(rows["action"][0], rows["action"][1])
    other = draw_from(changed, trajectory(2), jax.random.key(3)).batches
    again = draw_from(changed, trajectory(2), jax.random.key(4)).batches
    assert not np.array_equal(other["action"], again["action"])


def test_what_does_not_fit_is_an_error():
    memory = replay(pictures(), capacity=20, size=5, updates=1)
    with pytest.raises(UserError, match="20 transitions is not a multiple of the 6"):
        memory.use(SimpleNamespace(stats={"replay": memory.memory(KEY, None)}), trajectory(0), key=KEY)
    with pytest.raises(UserError, match="unknown stats entry 'replay'. Did you mean 'replays'"):
        memory.use(SimpleNamespace(stats={"replays": 0}), trajectory(0), key=KEY)
