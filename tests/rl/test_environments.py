"""CartPole and the grid world against gymnasium, step for step; the time limit against gymnasium's."""

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.rl.cartpole import cartpole
from research.rl.environment import time_limit
from research.rl.grid_world import grid_world, tables

KEY = jax.random.key(0)


def test_cartpole_is_gymnasiums_step_for_step():
    """A controlled episode to the limit of 500 steps, from gymnasium's state at each step: f32 against f64."""
    world, ours = gymnasium.make("CartPole-v1"), cartpole()
    step = jax.jit(ours.step)
    seen, _ = world.reset(seed=1)
    for time in range(500):
        state = {"inner": jnp.asarray(world.unwrapped.state, jnp.float32), "time": jnp.int32(time)}
        action = int(seen[2] + 0.5 * seen[3] + 0.02 * seen[0] + 0.1 * seen[1] > 0)
        seen, reward, terminated, truncated, _ = world.step(action)
        found = step(state, action, KEY)
        np.testing.assert_allclose(found.observation, seen, rtol=2e-6, atol=2e-7)
        assert (found.reward, found.terminated, found.truncated) == (reward, terminated, truncated)
        np.testing.assert_array_equal(found.observation, ours.observe(found.state))
    assert truncated and not terminated


def test_random_episodes_end_at_gymnasiums_step():
    """Free-running: rounding grows as the pole falls, but not by much in so few steps."""
    world, ours, rng = gymnasium.make("CartPole-v1"), cartpole(), np.random.default_rng(0)
    step, ends = jax.jit(ours.step), set()
    for seed in range(12):
        world.reset(seed=seed)
        state = {"inner": jnp.asarray(world.unwrapped.state, jnp.float32), "time": jnp.int32(0)}
        terminated = False
        while not terminated:
            action = int(rng.integers(2)) if seed % 3 else seed % 2  # the same push all the time, too
            seen, _, terminated, truncated, _ = world.step(action)
            found = step(state, action, KEY)
            state = found.state
            np.testing.assert_allclose(found.observation, seen, rtol=1e-4, atol=1e-5)
            assert (found.terminated, found.truncated) == (terminated, truncated)
        ends.add(int(state["time"]))
    assert len(ends) > 4


def test_cartpole_ends_on_either_side_of_the_track():
    """Episodes hardly ever leave the track: the two ends are tried from states beside them."""
    world, ours = gymnasium.make("CartPole-v1").unwrapped, cartpole()
    for x, speed in ((2.39, 1.0), (2.39, 0.1), (-2.39, -1.0), (-2.39, -0.1)):
        world.reset(seed=0)
        world.state = np.array([x, speed, 0.01, 0.0])
        _, _, terminated, _, _ = world.step(1)
        state = {"inner": jnp.array([x, speed, 0.01, 0.0], jnp.float32), "time": jnp.int32(0)}
        assert ours.step(state, 1, KEY).terminated == terminated == (abs(speed) == 1)


def test_cartpole_resets_evenly_within_a_twentieth():
    states = jax.vmap(cartpole().reset)(jax.random.split(KEY, 4000))
    found = np.asarray(states["inner"])
    assert found.shape == (4000, 4) and found.dtype == np.float32 and not states["time"].any()
    assert np.abs(found).max() <= 0.05 and np.abs(found).max() > 0.0499
    np.testing.assert_allclose(found.mean(0), 0, atol=2e-3)
    np.testing.assert_allclose(found.std(0), 0.1 / np.sqrt(12), rtol=0.05)


LAKE = ("SFFF", "FHFH", "FFFH", "HFFG")


@pytest.mark.parametrize("slip", [0.0, 2 / 3])
def test_the_tables_are_those_of_frozen_lake(slip):
    world = gymnasium.make("FrozenLake-v1", desc=list(LAKE), is_slippery=bool(slip)).unwrapped
    found = tables(LAKE, slip=slip)
    chances, rewards = np.zeros((16, 4, 16)), np.zeros((16, 4))
    for cell, actions in world.P.items():
        for action, outcomes in actions.items():
            for chance, after, reward, terminated in outcomes:
                if LAKE[cell // 4][cell % 4] in "SF":
                    chances[cell, action, after] += chance
                    rewards[cell, action] += chance * reward
                    assert terminated == (LAKE[after // 4][after % 4] in "HG")
    np.testing.assert_allclose(found.probabilities, chances, atol=1e-12)
    np.testing.assert_allclose(found.rewards, rewards, atol=1e-12)
    np.testing.assert_array_equal(found.starts, world.initial_state_distrib)
    assert found.reachable.sum() == 11


GRID = ("S#G", "SFH")
RULES = {"slip": 0.4, "goal": 2.0, "hole": -3.0, "cost": 0.25}


def test_the_steps_of_a_grid_world_follow_its_tables():
    """Every outcome of every cell and action, by its frequency over 4,000 keys; rewards and ends with it."""
    world, exact = grid_world(GRID, **RULES), tables(GRID, **RULES)
    keys = jax.random.split(KEY, 4000)
    many = jax.jit(jax.vmap(jax.vmap(world.step, (None, None, 0)), (0, 0, None)))
    cells, actions = (x.ravel() for x in np.meshgrid(np.flatnonzero(exact.reachable), np.arange(4)))
    found = many(cells, actions, keys)
    gained = np.array([-0.25, 0, 2, -0.25, -0.25, -3])
    for row, (cell, action) in enumerate(zip(cells, actions, strict=True)):
        counts = np.bincount(found.state[row], minlength=6) / 4000
        np.testing.assert_allclose(counts, exact.probabilities[cell, action], atol=0.03)
        assert set(np.flatnonzero(counts)) == set(np.flatnonzero(exact.probabilities[cell, action]))
        np.testing.assert_allclose(found.reward[row].mean(), exact.rewards[cell, action], atol=0.1)
    np.testing.assert_array_equal(found.reward, gained[found.state])
    np.testing.assert_array_equal(found.terminated, np.isin(found.state, [2, 5]))
    np.testing.assert_array_equal(found.observation, np.eye(6)[found.state])
    assert not found.truncated.any()
    starts = np.bincount(jax.vmap(world.reset)(keys), minlength=6) / 4000
    np.testing.assert_allclose(starts, exact.starts, atol=0.03)


def test_a_limit_truncates_as_gymnasiums_and_terminates_too():
    """Three moves to the hole, under a limit of 3: the third is both, in gymnasium as here."""
    grid = ("SFFH",)
    theirs = gymnasium.make("FrozenLake-v1", desc=list(grid), is_slippery=False, max_episode_steps=3)
    ours = time_limit(grid_world(grid), 3)
    for action in (2, 0):
        theirs.reset(seed=0)
        state = ours.reset(KEY)
        for last in (False, False, True):
            seen, _, terminated, truncated, _ = theirs.step(action)
            found = ours.step(state, action, KEY)
            state = found.state
            assert (found.terminated, found.truncated) == (terminated, truncated) == (last and action == 2, last)
            assert found.observation.argmax() == seen == ours.observe(state).argmax()


def test_what_is_no_grid_is_an_error():
    for grid, message in (
        (("SF", "G"), "lengths"),
        (("SX",), "unknown letter 'X'"),
        (("FG",), "at least one start"),
    ):
        with pytest.raises(UserError, match=message):
            grid_world(grid)
    with pytest.raises(UserError, match="expected a probability"):
        tables(GRID, slip=1.5)
    with pytest.raises(UserError, match="at least 1"):
        time_limit(grid_world(GRID), 0)
