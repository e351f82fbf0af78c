"""Paraphrases of a masked language model with known probabilities: those of the left neighbour."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import chisquare

from research.core import Trained
from research.decoding.infill import infill
from research.errors import UserError

MASK, END, WORDS = 6, 7, 8
TABLE = np.random.default_rng(0).normal(size=(WORDS, WORDS)).astype(np.float32)
# The network reads the left neighbour alone; a token that it reads itself would win.
TRAINED = Trained(
    lambda params, stats, x, train: (
        params[jnp.roll(x, 1, 1)] + 50 * (x[..., None] == jnp.arange(WORDS)) * (x[..., None] != MASK),
        {},
    ),
    jnp.array(TABLE),
    {},
)
OPTIONS = dict(mask_token=MASK, special=(END,))
ROW = jnp.array([[END, 1, 2, 3, END, 0, 0]])


def test_hidden_tokens_are_drawn_from_the_network_given_the_others():
    rows = jnp.tile(ROW, (20_000, 1))
    found = np.asarray(
        jax.jit(lambda rows, key: infill(TRAINED, rows, key=key, rate=0.2, **OPTIONS))(rows, jax.random.key(0))
    )
    np.testing.assert_array_equal(found[:, [0, 4, 5, 6]], np.asarray(rows)[:, [0, 4, 5, 6]])
    # Position 1 has a neighbour that is never hidden. It is hidden with 0.2, and then drawn from words 1 to 5.
    expected = np.exp(TABLE[END]) * np.isin(np.arange(WORDS), range(1, 6))
    expected = 0.2 * expected / expected.sum() + 0.8 * (np.arange(WORDS) == 1)
    counts = np.bincount(found[:, 1], minlength=WORDS)
    assert counts[expected == 0].sum() == 0
    assert chisquare(counts[expected > 0], len(found) * expected[expected > 0]).pvalue > 1e-3


def test_rates_rounds_and_temperature():
    same = infill(TRAINED, ROW, key=jax.random.key(0), rate=0.0, **OPTIONS)
    np.testing.assert_array_equal(same, ROW)
    best = infill(TRAINED, ROW, key=jax.random.key(0), rate=1.0, temperature=1e-3, **OPTIONS)
    choice = lambda token: 1 + int(TABLE[token, 1:6].argmax())
    np.testing.assert_array_equal(best[0], [END, choice(END), choice(MASK), choice(MASK), END, 0, 0])
    again = infill(TRAINED, best, key=jax.random.key(1), rate=1.0, temperature=1e-3, **OPTIONS)
    twice = infill(TRAINED, ROW, key=jax.random.key(2), rate=1.0, rounds=2, temperature=1e-3, **OPTIONS)
    np.testing.assert_array_equal(twice, again)
    # Each round hides other tokens: with a rate of a half, a quarter stays in both.
    rows = jnp.tile(ROW.at[0, 1].set(next(word for word in range(1, 6) if word != choice(END))), (4000, 1))
    found = infill(TRAINED, rows, key=jax.random.key(3), rate=0.5, rounds=2, temperature=1e-3, **OPTIONS)
    assert (found[:, 1] == rows[:, 1]).mean() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"rate": 1.5}, "rate=1.5.*expected 0 to 1"), ({"temperature": 0.0}, "temperature"), ({"rounds": 0}, "rounds=0")],
)
def test_numbers_out_of_range(wrong, message):
    with pytest.raises(UserError, match=message):
        infill(TRAINED, ROW, key=jax.random.key(0), **OPTIONS, **wrong)
