"""Generalised advantages against the double sum that defines them, and in their limits."""

import jax
import numpy as np

from research.rl.advantages import generalized_advantages

RNG = np.random.default_rng(0)
T, N = 40, 6
REWARDS, VALUES, NEXT = (RNG.normal(size=(T, N)).astype(np.float32) for _ in range(3))
TERMINATED = RNG.random((T, N)) < 0.1
TRUNCATED = RNG.random((T, N)) < 0.1  # some steps are both


def found(gae_lambda, discount=0.9):
    f = jax.jit(lambda: generalized_advantages(
        REWARDS, VALUES, NEXT, terminated=TERMINATED, truncated=TRUNCATED, discount=discount, gae_lambda=gae_lambda,
    ))  # fmt: skip
    return np.asarray(f())


def errors(discount):
    """r + discount V(s') - V(s), with nothing after a terminal state and the last observation's value at the limit."""
    return REWARDS + discount * np.where(TERMINATED, 0, NEXT) - VALUES


def test_it_is_the_sum_of_the_errors_to_come():
    expected = np.zeros((T, N))
    for t in range(T):
        for n in range(N):
            factor = 1.0
            for later in range(t, T):
                expected[t, n] += factor * errors(0.9)[later, n]
                if TERMINATED[later, n] or TRUNCATED[later, n]:
                    break
                factor *= 0.9 * 0.7
    assert (TERMINATED & TRUNCATED).any() and (TRUNCATED & ~TERMINATED).any()
    np.testing.assert_allclose(found(0.7), expected, atol=1e-5)


def test_without_a_trace_it_is_the_error_of_one_step():
    np.testing.assert_allclose(found(0.0), errors(0.9), atol=1e-6)


def test_with_a_full_trace_it_is_the_return_less_the_value():
    """The Monte Carlo return of each step, bootstrapped at a limit and at the last row only; values that agree on
    the state between two rows, as those of a rollout do, cancel.
    """
    agree = np.array(NEXT)
    going = ~(TERMINATED | TRUNCATED)
    agree[:-1] = np.where(going[:-1], VALUES[1:], agree[:-1])
    returns, later = np.zeros((T, N)), agree[-1]
    for t in reversed(range(T)):
        last = np.where(TERMINATED[t], 0, np.where(TRUNCATED[t], agree[t], later))
        later = returns[t] = REWARDS[t] + 0.95 * last
    f = generalized_advantages(
        REWARDS, VALUES, agree, terminated=TERMINATED, truncated=TRUNCATED, discount=0.95, gae_lambda=1.0
    )
    np.testing.assert_allclose(f, returns - VALUES, atol=2e-5)
