import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from research.core import Ctx, draw
from research.errors import UserError
from research.model import from_nnx
from research.models.bert import BERT, Encoded, Pretrained
from research.objectives.masked_tokens import masked_tokens
from tests.models.fresh import fresh

TINY = {"vocabulary": 11, "length": 12, "width": 8, "depth": 1, "heads": 2, "hidden": 12}
TOKENS = np.random.default_rng(0).integers(3, 11, size=(2, 9))


def network(**options):
    model = from_nnx(lambda rngs: BERT(**{**TINY, **options}, rngs=rngs))
    return model, fresh(model)[0]


def test_packed_documents_and_padding_do_not_see_each_other():
    model, params = network(masked=True)
    segments = np.array([[1] * 4 + [2] * 3 + [0] * 2] * 2)
    positions = np.array([[*range(4), *range(3), *range(2)]] * 2)
    logits = jax.jit(lambda tokens: model.apply(params, {}, tokens, segments, positions)[0])
    before, changed = np.asarray(logits(TOKENS)), TOKENS.copy()
    changed[:, 4:7] = (changed[:, 4:7] + 1) % 11
    after = np.asarray(logits(changed))
    np.testing.assert_array_equal(after[:, :4], before[:, :4])
    assert (after[:, 4:7] != before[:, 4:7]).any((0, 2)).all()
    # A document gives the same logits alone as in the middle of a row.
    alone = jax.jit(lambda tokens: model.apply(params, {}, tokens)[0])(TOKENS[:, 4:7])
    np.testing.assert_allclose(alone, before[:, 4:7], atol=1e-5)


def test_it_sees_both_sides_and_the_type_of_a_token():
    model, params = network()
    states = jax.jit(lambda tokens, types: model.apply(params, {}, tokens, None, None, types)[0].states)
    before = np.asarray(states(TOKENS, np.zeros_like(TOKENS)))
    later = TOKENS.copy()
    later[:, 8] = (later[:, 8] + 1) % 11
    assert (np.asarray(states(later, np.zeros_like(TOKENS)))[:, 0] != before[:, 0]).any(-1).all()
    assert (np.asarray(states(TOKENS, np.eye(9, dtype=int)[[3, 3]]))[:, 3] != before[:, 3]).any(-1).all()


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({}, Encoded),
        ({"masked": True, "pooler": None}, (2, 9, 11)),
        ({"num_classes": 3, "token_types": 0, "pooler": None}, (2, 3)),
        ({"masked": True, "num_classes": 2}, Pretrained),
    ],
)
def test_the_heads_decide_the_output(options, kind):
    model = from_nnx(lambda rngs: BERT(**TINY, **options, rngs=rngs))
    params, stats = jax.eval_shape(model.init, jax.random.key(0))
    out, _ = jax.eval_shape(model.apply, params, stats, TOKENS)
    assert out.shape == kind if isinstance(kind, tuple) else isinstance(out, kind)


def test_dropout_acts_in_training_alone():
    model, params = network(num_classes=3, dropout=0.5, attention_dropout=0.5)
    out = jax.jit(lambda key, train: model.apply(params, {}, TOKENS, key=key, train=train)[0], static_argnums=1)
    assert (out(draw(0), True) != out(draw(1), True)).any()
    np.testing.assert_array_equal(out(draw(0), False), out(draw(1), False))


def test_the_masking_of_the_paper_trains_it():
    """All tokens of a row are equal: those on both sides reveal a hidden one."""
    model, params = network(masked=True)
    loss = masked_tokens(model, vocabulary=11, mask_token=2, special=(0, 1))
    rows = np.random.default_rng(1).integers(3, 11, (100, 16, 1)) * np.ones((1, 1, 9), int)
    batch = {"segments": np.ones((16, 9), int), "positions": np.tile(np.arange(9), (16, 1))}

    optimizer = optax.adam(0.02)

    @jax.jit
    def step(params, opt, tokens, key):
        ctx = Ctx({**batch, "tokens": tokens}, {}, key, jnp.int32(0))
        value, grads = jax.value_and_grad(lambda params: loss(params, ctx)[0])(params)
        updates, opt = optimizer.update(grads, opt)
        return optax.apply_updates(params, updates), opt, value

    losses, opt = [], optimizer.init(params)
    for i, tokens in enumerate(rows):
        params, opt, value = step(params, opt, tokens, draw(i))
        losses.append(float(value))
    assert losses[0] > 1.9 and np.mean(losses[-20:]) < 0.8


def test_mistakes_are_named():
    model, params = network(length=8, first_position=2, token_types=0)
    with pytest.raises(UserError, match="rows of 9 tokens are longer than the model's length of 6"):
        model.apply(params, {}, TOKENS)
    with pytest.raises(UserError, match="the model has no table of them; set token_types=2"):
        model.apply(params, {}, TOKENS[:, :4], None, None, TOKENS[:, :4])
