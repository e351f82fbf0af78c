"""Masked sums: exact to the bit, uniform one by one, and the mean that they stand for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import weighted_mean
from research.errors import UserError
from research.gradients.secure import FIXED_POINT_SCALE, dequantise, pairwise_mask, quantise, secure

RNG = np.random.default_rng(0)
CLIENTS, SIZE = 6, 40_000
KEY = jax.random.key(0)
ALL = jax.jit(jax.vmap(lambda key, i: pairwise_mask(key, i, clients=CLIENTS, shape=(SIZE,)), (None, 0)))
MASKS = np.asarray(ALL(KEY, jnp.arange(CLIENTS)))


def test_fixed_point_against_numpy():
    x = np.concatenate([RNG.normal(size=200), [0.0, -0.0, 2.0, -2.0, 7.0, -7.0]]).astype(np.float32)
    fixed = np.asarray(quantise(x, limit=2.0))
    assert fixed.dtype == np.uint32
    np.testing.assert_array_equal(
        fixed.view(np.int32), np.round(np.clip(x, -2, 2).astype(np.float64) * FIXED_POINT_SCALE / 2)
    )
    np.testing.assert_allclose(dequantise(fixed, limit=2.0), np.clip(x, -2, 2), rtol=1e-6)
    assert quantise(jnp.float32(7.0), limit=2.0, share=0.25) == FIXED_POINT_SCALE // 4  # held to the limit first


def test_masks_cancel_to_the_bit_and_those_of_some_are_minus_the_rest():
    assert MASKS.dtype == np.uint32
    np.testing.assert_array_equal(MASKS.sum(0, dtype=np.uint32), 0)
    secret = quantise(RNG.uniform(-1, 1, size=(CLIENTS, SIZE)), limit=1.0, share=1 / CLIENTS)
    sent = np.asarray(secret) + MASKS
    exact = np.asarray(secret).view(np.int32).astype(np.int64).sum(0)
    np.testing.assert_array_equal(sent.sum(0, dtype=np.uint32).view(np.int32), exact)
    # Clients 1 and 4 drop out: with their masks, the sum is that of the others.
    stay, gone = [0, 2, 3, 5], [1, 4]
    assert np.mean(sent[stay].sum(0, dtype=np.uint32) == np.asarray(secret)[stay].sum(0, dtype=np.uint32)) < 0.01
    found = sent[stay].sum(0, dtype=np.uint32) + MASKS[gone].sum(0, dtype=np.uint32)
    np.testing.assert_array_equal(found, np.asarray(secret)[stay].sum(0, dtype=np.uint32))


def test_what_one_client_sends_looks_uniform_whatever_it_holds():
    """Chi-square of every byte, and independence of two clients; 20 tests at one in a million each."""
    sent = MASKS + np.asarray(quantise(np.full((CLIENTS, SIZE), 0.3), limit=1.0, share=1 / CLIENTS))
    for client in (0, 2, 5):
        for byte in range(4):
            counts = np.bincount((sent[client] >> (8 * byte)) & 255, minlength=256)
            assert np.sum((counts - SIZE / 256) ** 2 / (SIZE / 256)) < 255 + 5.5 * np.sqrt(2 * 255), (client, byte)
    # Two clients share one mask with opposite signs, but not their sums.
    high = (sent >> 28).astype(int)
    for a, b in ((0, 1), (2, 3)):
        counts = np.bincount(high[a] * 16 + high[b], minlength=256)
        assert np.sum((counts - SIZE / 256) ** 2 / (SIZE / 256)) < 255 + 5.5 * np.sqrt(2 * 255)
    assert np.mean(np.asarray(ALL(jax.random.key(1), jnp.arange(CLIENTS))) == MASKS) < 1e-3


WEIGHTS = np.asarray([3.0, 1.0, 0.0, 10.0, 2.0, 5.0], np.float32)
UPDATES = {
    "w": RNG.uniform(-1, 1, size=(CLIENTS, 20, 3)).astype(np.float32),
    "b": RNG.uniform(-1, 1, size=CLIENTS).astype(np.float32),
}
UPDATES["w"][2] = np.nan  # of weight 0
MEAN = jax.jit(secure(limit=1.0))


def test_the_mean_is_the_plain_weighted_mean_and_an_empty_client_is_harmless():
    found = MEAN(UPDATES, WEIGHTS, KEY)
    expected = weighted_mean(UPDATES, WEIGHTS)
    assert found.weight == expected.weight == 21
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-7), found.value(), expected.value())
    nothing = MEAN(UPDATES, jnp.zeros(CLIENTS), KEY)
    assert nothing.weight == 0 and not np.any(nothing.value()["w"])


def test_clients_that_drop_out_are_left_out_and_others_each_round():
    aggregate = jax.jit(secure(limit=1.0, drop=0.5))
    # The mean of powers of two tells who stayed.
    who = {"b": 2.0 ** -np.arange(1, CLIENTS + 1, dtype=np.float32)}
    seen = set()
    for seed in range(8):
        mean = aggregate(who, jnp.ones(CLIENTS), jax.random.key(seed))
        stayed = [int(bit) for bit in f"{round(float(mean.sum['b']) * 64):06b}"]
        np.testing.assert_allclose(mean.sum["b"], np.sum(who["b"] * stayed), atol=1e-6)
        assert sum(stayed) == mean.weight
        seen.add(tuple(stayed))
    assert len(seen) > 4
    everyone = jax.jit(secure(drop=1.0))(who, jnp.ones(CLIENTS), KEY)
    assert everyone.weight == 0 and everyone.value()["b"] == 0


def test_numbers_beyond_the_limit_are_held_and_those_not_finite_are_seen():
    updates = {"w": np.asarray([[5.0, np.nan, 0.5], [1.0, 0.0, np.inf]], np.float32)}
    mean = jax.jit(secure(limit=2.0))(updates, jnp.asarray([1.0, 3.0]), KEY).value()
    np.testing.assert_allclose(mean["w"], [(2 + 3) / 4, np.nan, np.nan], rtol=1e-6)


def test_mistakes_are_named():
    for knobs in ({"limit": 0.0}, {"limit": float("nan")}, {"drop": 1.5}):
        with pytest.raises(UserError, match="expected a positive limit and a drop from 0 to 1"):
            secure(**knobs)
    with pytest.raises(UserError, match="single client"):
        secure()({"w": jnp.ones((1, 3))}, jnp.ones(1), KEY)
