"""Batches by length: every record once per epoch, the smallest bucket that fits, the same batch at any time."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import Out, weighted_mean
from research.data import arrays
from research.data.sampling.by_length import by_length
from research.errors import UserError
from research.experiment import Experiment, build

N, BUCKETS = 37, (2, 4, 9)
LENGTHS = np.random.default_rng(0).integers(1, 10, N)
TOKENS = np.where(np.arange(9) < LENGTHS[:, None], np.arange(N)[:, None] + 1, 0).astype(np.int32)
DATA = arrays(tokens=TOKENS, number=np.arange(N))


def source(size=3, **changes):
    options = {"fields": ("tokens",), "lengths": LENGTHS, "buckets": BUCKETS}
    return by_length(DATA, size, **{**options, **changes})


def test_an_epoch_has_every_record_once_and_nothing_is_cut():
    made = source()(seed := 3)
    for epoch in range(3):
        batches = [made(epoch * 13 + i) for i in range(13)]
        seen = np.concatenate([b["number"][b["mask"] > 0] for b in batches])
        assert sorted(seen) == list(range(N))
        for b in batches:
            longest = LENGTHS[b["number"][b["mask"] > 0]].max()
            assert b["tokens"].shape[1] == BUCKETS[np.searchsorted(BUCKETS, longest)]
            np.testing.assert_array_equal(b["tokens"], TOKENS[b["number"], : b["tokens"].shape[1]])
    widths = [b["tokens"].shape[1] for b in batches]
    assert set(widths) == set(BUCKETS) and widths != sorted(widths), "buckets are in random order"
    again = source()(seed)
    np.testing.assert_equal(again(21), made(21))
    assert [made(i)["number"].tolist() for i in range(13)] != [made(13 + i)["number"].tolist() for i in range(13)]
    for name, values in made(4, rows=np.array([0, 2])).items():
        np.testing.assert_array_equal(values, made(4)[name][[0, 2]])


def experiment(**changes):
    def loss(params, ctx):
        mean = weighted_mean((ctx.batch["tokens"].sum(1) * params["w"]).astype(jnp.float32), ctx.batch["mask"])
        return mean.value(), Out({}, {"loss": mean})

    options = dict(source=source(), steps=13, optimizer=optax.sgd(0.0))
    init = lambda key: ({"w": jnp.ones(())}, {})
    return Experiment(init=init, apply=lambda *a, **k: None, loss=loss, **{**options, **changes})


def test_a_run_takes_batches_of_every_bucket_and_of_no_other_shape():
    built = build(experiment(), devices=jax.devices()[:1])
    state, sums, at = built.fresh(), built.fresh_sums(), built.source(0)
    for step in range(13):
        state, sums = built.step(state, sums, at(step))
    total = float(sums.total.sum["loss"].value())
    assert total == pytest.approx(TOKENS.sum() / N)
    with pytest.raises(UserError, match="stride=2: batches by length have 3 shapes"):
        build(experiment(stride=2), devices=jax.devices()[:1])


@pytest.mark.parametrize("changes, message", [
    ({"buckets": (2, 4)}, "record .* has the length 9; the longest bucket is 4"), ({"buckets": (4, 2)}, "ascending"),
    ({"lengths": LENGTHS[1:]}, "one per record"), ({"fields": ("words",)}, "no padded field words"),
])  # fmt: skip
def test_arguments_that_do_not_fit(changes, message):
    with pytest.raises(UserError, match=message):
        source(**changes)
