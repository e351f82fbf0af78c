"""Value iteration against the best of all policies, each solved as a linear system."""

import itertools

import numpy as np
import pytest

from research.errors import UserError
from research.rl.dynamic_programming import value_iteration
from research.rl.grid_world import tables

GRID = ("SF", "HF", "FG")


def test_it_is_the_best_of_all_policies():
    exact = tables(GRID, slip=0.3, hole=-1.0, cost=0.1)
    inside = np.flatnonzero(exact.reachable)
    best = np.full(6, -np.inf)
    for actions in itertools.product(range(4), repeat=len(inside)):
        policy = np.zeros(6, int)
        policy[inside] = actions
        moves, rewards = exact.probabilities[np.arange(6), policy], exact.rewards[np.arange(6), policy]
        best = np.maximum(best, np.linalg.solve(np.eye(6) - 0.9 * moves, rewards))
    found = value_iteration(exact.probabilities, exact.rewards, discount=0.9)
    np.testing.assert_allclose(found.state, best, atol=1e-10)
    expected = exact.rewards + 0.9 * exact.probabilities @ best
    np.testing.assert_allclose(found.action, expected, atol=1e-10)
    assert len(np.unique(found.action[inside].round(6))) > 8


def test_without_a_future_it_is_the_rewards_and_without_discount_an_error():
    exact = tables(GRID)
    np.testing.assert_array_equal(value_iteration(exact.probabilities, exact.rewards, discount=0).action, exact.rewards)
    with pytest.raises(UserError, match="less than 1"):
        value_iteration(exact.probabilities, exact.rewards, discount=1.0)
