import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import Ctx, Trained, check_additive, merge
from research.errors import UserError
from research.layers.attention import full_mask
from research.metrics.masked_tokens import measure_masked_tokens
from research.model import from_nnx
from research.models.gpt import GPT
from research.objectives.masked_tokens import corrupt, masked_tokens
from tests.models.fresh import fresh

RNG = np.random.default_rng(0)
MASK, BEGIN, REAL = 12, 11, 10  # ten real tokens, one that nothing predicts, the two special ones
SEGMENTS = np.tile(np.repeat([1, 2, 0], (20, 10, 10)), (64, 1))
TOKENS = np.where(np.arange(40) % 20 == 0, BEGIN, RNG.integers(REAL, size=(64, 40)))
BATCH = {"tokens": TOKENS, "segments": SEGMENTS, "positions": np.tile(np.arange(40), (64, 1))}
TABLE = RNG.normal(size=(13, 13)).astype(np.float32)
HOW = dict(vocabulary=REAL, mask_token=MASK)


def lookup(params, stats, tokens, segments, positions, *, key=None, train=False):
    """Logits that depend on the corrupted token at the same place; stats show which tokens came."""
    return jnp.asarray(params)[tokens], {"given": tokens}


def run(loss, batch=BATCH, key=0):
    return jax.jit(loss)(TABLE, Ctx(batch, {}, jax.random.key(key), jnp.int32(0)))


def test_shares_of_what_becomes_of_tokens():
    tokens = RNG.integers(REAL, size=200_000)
    allowed = RNG.random(200_000) < 0.5
    corrupted = jax.jit(lambda key, tokens: corrupt(key, tokens, allowed=allowed, **HOW))
    found = corrupted(jax.random.key(0), tokens)
    changed, chosen = np.asarray(found.tokens), np.asarray(found.chosen)
    assert not chosen[~allowed].any() and (changed == tokens)[~chosen].all()
    # About 15,000 of the 100,000: three deviations are 0.0034, and 0.01 of the shares below.
    np.testing.assert_allclose(chosen[allowed].mean(), 0.15, atol=0.004)
    inside, before = changed[chosen], tokens[chosen]
    np.testing.assert_allclose(np.mean(inside == MASK), 0.8, atol=0.01)
    # A random token is the token itself once in ten.
    np.testing.assert_allclose(np.mean(inside == before), 0.1 + 0.1 / REAL, atol=0.01)
    others = inside[(inside != MASK) & (inside != before)]
    counts = np.bincount(others, minlength=REAL) / len(others)
    assert len(counts) == REAL
    np.testing.assert_allclose(counts, 0.1, atol=0.03)
    # Which token stands somewhere has no influence on whether it is chosen, nor on what comes instead.
    where = np.asarray(corrupted(jax.random.key(0), tokens * 0).chosen)
    np.testing.assert_array_equal(where, chosen)


def test_the_loss_is_the_mean_over_the_chosen_tokens_alone():
    _, out = run(masked_tokens(lookup, **HOW, special=(BEGIN,), rate=0.5))
    tokens, weight = np.asarray(out.stats["given"]), out.metrics["loss"].weight
    # Changed tokens were chosen; of the others one in ten, and these are told apart by the weight only.
    changed = tokens != TOKENS
    assert not changed[SEGMENTS == 0].any() and not changed[TOKENS == BEGIN].any()
    maskable = (SEGMENTS > 0) & (TOKENS != BEGIN)
    assert changed.sum() < weight < maskable.sum()
    np.testing.assert_allclose(weight / maskable.sum(), 0.5, atol=0.05)
    # With every token chosen, none is unknown.
    value, out = run(masked_tokens(lookup, **HOW, special=(BEGIN,), rate=1.0))
    tokens = np.asarray(out.stats["given"])
    nats = np.asarray(optax.softmax_cross_entropy_with_integer_labels(TABLE[tokens], TOKENS))
    np.testing.assert_allclose([value, out.metrics["loss"].value()], nats[maskable].mean(), rtol=1e-5)
    hits = TABLE[tokens].argmax(-1) == TOKENS
    np.testing.assert_allclose(out.metrics["accuracy"].value(), hits[maskable].mean(), rtol=1e-5)
    assert out.metrics["loss"].weight == maskable.sum()
    check_additive(out.metrics, by="accumulate")


def test_examples_of_mask_0_count_in_nothing():
    real = np.arange(64) < 40
    loss = masked_tokens(lookup, **HOW, special=(BEGIN,), rate=1.0)
    jitted = jax.jit(loss)
    at = lambda mask: jitted(TABLE, Ctx({**BATCH, "mask": mask}, {}, jax.random.key(0), jnp.int32(0)))
    _, out = at(real)
    assert out.metrics["loss"].weight == ((SEGMENTS > 0) & (TOKENS != BEGIN))[real].sum()
    value, out = at(~(real | True))
    assert value == 0 and out.metrics["loss"].weight == 0


def test_what_is_hidden_changes_with_the_key():
    loss = jax.jit(masked_tokens(lookup, **HOW))
    given = lambda key: np.asarray(loss(TABLE, Ctx(BATCH, {}, jax.random.key(key), jnp.int32(0)))[1].stats["given"])
    one, same, other = given(0), given(0), given(1)
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()


def test_an_evaluation_hides_the_same_tokens_however_the_set_is_cut_into_batches():
    def watching(params, stats, tokens, *others, train):
        assert not train
        hidden.append(tokens == MASK)
        return jnp.asarray(params)[tokens], {}

    hidden = []
    measure = measure_masked_tokens(**HOW, special=(BEGIN,), seed=3)
    measured = jax.jit(lambda batch: (measure(Trained(watching, TABLE, {}), batch), hidden.pop()))
    whole, masks = measured(BATCH)
    parts = [measured({name: x[part] for name, x in BATCH.items()}) for part in (slice(0, 32), slice(32, 64))]
    merged = merge(parts[0][0], parts[1][0])
    np.testing.assert_allclose(merged["loss"].value(), whole["loss"].value(), rtol=1e-5)
    np.testing.assert_allclose(merged["accuracy"].value(), whole["accuracy"].value(), rtol=1e-5)
    assert merged["loss"].weight == whole["loss"].weight > 0
    # Different ones in different rows, and none of what may not be hidden.
    masks = np.asarray(masks)
    assert len({row.tobytes() for row in masks}) > 50
    assert not masks[(SEGMENTS == 0) | (TOKENS == BEGIN)].any()


def test_a_bidirectional_gpt_sees_both_sides_of_its_own_document():
    model = from_nnx(lambda rngs: GPT(vocabulary=13, length=8, width=8, depth=1, heads=2, mask=full_mask, rngs=rngs))
    params, _ = fresh(model)
    segments = np.array([[1, 1, 1, 1, 2, 2, 2, 0]])
    logits = jax.jit(lambda tokens: model.apply(params, {}, tokens, segments)[0])
    before = np.asarray(logits(TOKENS[:1, :8]))
    for place in range(8):
        changed = TOKENS[:1, :8].copy()
        changed[:, place] = (changed[:, place] + 1) % REAL
        moved = (np.asarray(logits(changed)) != before).any((0, 2))
        np.testing.assert_array_equal(moved, segments[0] == segments[0, place])


def test_what_does_not_fit_is_an_error():
    for rate in (0, 1.5):
        with pytest.raises(UserError, match="of tokens to hide"):
            masked_tokens(lookup, **HOW, rate=rate)
        with pytest.raises(UserError, match="of tokens to hide"):
            measure_masked_tokens(**HOW, rate=rate)
    with pytest.raises(UserError, match="unknown batch field 'segments'"):
        run(masked_tokens(lookup, **HOW), {"tokens": TOKENS, "positions": TOKENS})
