"""The loss of dense retrieval: its formula in numpy, its limit, and masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from research.core import Ctx, Model, NotAdditive
from research.errors import UserError
from research.losses import info_nce
from research.objectives.retrieve import retrieve

RNG = np.random.default_rng(1)
TABLE = jnp.asarray(RNG.normal(size=(20, 4)), jnp.float32)
MODEL = Model(None, lambda table, stats, ids, values, **_: (jnp.einsum("be,bef->bf", values, table[ids]), stats))


def batch_of(size=5):
    batch = {}
    for name in ("query", "text", "negative"):
        batch[f"{name}_ids"] = RNG.integers(20, size=(size, 3))
        batch[f"{name}_values"] = RNG.random((size, 3)).astype(np.float32)
    return batch


def value_of(batch, **options):
    return retrieve(MODEL, **options)(TABLE, Ctx(batch, {}, jax.random.key(0), jnp.int32(0)))


def test_the_loss_is_that_of_the_paper():
    batch = batch_of()
    unit = {}
    for name in ("query", "text", "negative"):
        found = np.einsum("be,bef->bf", batch[f"{name}_values"], np.asarray(TABLE)[batch[f"{name}_ids"]])
        unit[name] = found / np.linalg.norm(found, axis=1, keepdims=True)
    logits = unit["query"] @ np.concatenate([unit["text"], unit["negative"]]).T / 0.1
    value, out = value_of(batch, temperature=0.1)
    expected = -log_softmax(logits, axis=1)[np.arange(5), np.arange(5)].mean()
    assert float(value) == pytest.approx(expected, rel=1e-5) and isinstance(out.metrics["loss"], NotAdditive)
    assert float(out.metrics["accuracy"].value()) == pytest.approx((logits.argmax(1) == np.arange(5)).mean())


def test_equal_negatives_add_log_2():
    batch = batch_of()
    batch |= {f"negative_{part}": batch[f"text_{part}"] for part in ("ids", "values")}
    embed = lambda name: MODEL.apply(TABLE, {}, batch[f"{name}_ids"], batch[f"{name}_values"])[0]
    alone = info_nce(embed("query"), embed("text"), temperature=0.05).mean()
    assert float(value_of(batch)[0]) == pytest.approx(float(alone) + np.log(2), rel=1e-5)


def test_masked_examples_are_neither_queries_nor_candidates():
    batch = batch_of()
    padded = {**batch, "mask": np.array([1, 1, 1, 0, 0])}
    short = {name: values[:3] for name, values in batch.items()}
    assert float(value_of(padded)[0]) == pytest.approx(float(value_of(short)[0]), rel=1e-5)
    assert float(value_of({**batch, "mask": np.zeros(5)})[0]) == 0


def test_a_wrong_temperature_is_told():
    with pytest.raises(UserError, match=r"retrieve\(temperature=0\); expected a number above 0"):
        retrieve(MODEL, temperature=0)
