"""Target networks against the recursion by hand, in their limits, and over a resumed run's counting."""

import numpy as np
import pytest

from research.errors import UserError
from research.optim.target import target
from tests.optim.test_ema import trajectory


def test_a_hard_target_is_a_copy_after_every_kth_update():
    lagging = target(every=4)
    params, state = trajectory(lagging, steps=15)
    np.testing.assert_array_equal(state.stats["target"]["w"], params[12])
    assert not np.array_equal(params[12], params[15])


def test_it_is_the_initial_weights_before_the_first_copy_and_the_live_ones_after_each():
    params, state = trajectory(target(every=100), steps=3)
    np.testing.assert_array_equal(state.stats["target"]["w"], params[0])
    params, state = trajectory(target(every=1, name="lag"), steps=3)
    np.testing.assert_array_equal(state.stats["lag"]["w"], params[-1])


def test_a_soft_target_is_the_recursion():
    soft = target(tau=0.2)
    params, state = trajectory(soft, steps=6)
    expected = params[0]
    for new in params[1:]:
        expected = 0.8 * expected + 0.2 * new
    np.testing.assert_allclose(soft.view(state)[0]["w"], expected, rtol=1e-5)
    assert not np.allclose(expected, params[-1])


@pytest.mark.parametrize("wrong", [{}, {"every": 2, "tau": 0.1}, {"every": 0}, {"tau": 0.0}, {"tau": 1.5}])
def test_arguments_that_make_no_target(wrong):
    with pytest.raises(UserError):
        target(**wrong)
