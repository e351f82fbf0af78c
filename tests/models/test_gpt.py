import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.errors import UserError
from research.model import from_nnx
from research.models.gpt import GPT
from tests.models.fresh import fresh

MODEL = from_nnx(lambda rngs: GPT(vocabulary=11, length=12, width=16, depth=2, heads=2, rngs=rngs))
PARAMS, _ = fresh(MODEL)
TOKENS = np.random.default_rng(0).integers(11, size=(3, 12))


@jax.jit
def logits(tokens, segments=None, positions=None):
    return MODEL.apply(PARAMS, {}, tokens, segments, positions)[0]


def test_a_later_token_never_changes_an_earlier_logit():
    before = np.asarray(logits(TOKENS))
    for place in range(1, 12):
        changed = TOKENS.copy()
        changed[:, place] = (changed[:, place] + 1) % 11
        after = np.asarray(logits(changed))
        np.testing.assert_array_equal(after[:, :place], before[:, :place])
        assert (after[:, place:] != before[:, place:]).any((0, 2)).all()


def test_packed_documents_do_not_see_each_other():
    segments = np.array([[1] * 5 + [2] * 4 + [0] * 3] * 3)
    positions = np.array([[*range(5), *range(4), *range(3)]] * 3)
    before = np.asarray(logits(TOKENS, segments, positions))
    changed = TOKENS.copy()
    changed[:, :5] = (changed[:, :5] + 1) % 11
    changed[:, 9:] = (changed[:, 9:] + 1) % 11
    after = np.asarray(logits(changed, segments, positions))
    np.testing.assert_array_equal(after[:, 5:9], before[:, 5:9])
    assert (after[:, :5] != before[:, :5]).any()
    # Without segments they do.
    assert (np.asarray(logits(changed))[:, 5:9] != np.asarray(logits(TOKENS))[:, 5:9]).any()


def test_a_packed_document_has_the_logits_it_has_alone():
    segments = np.array([[1] * 5 + [2] * 7] * 3)
    positions = np.array([[*range(5), *range(7)]] * 3)
    alone = np.asarray(logits(np.pad(TOKENS[:, 5:], ((0, 0), (0, 5)))))
    np.testing.assert_allclose(logits(TOKENS, segments, positions)[:, 5:], alone[:, :7], atol=2e-4)


def test_the_output_layer_is_the_embedding():
    assert set(PARAMS) == {"embed", "place", "blocks", "norm"}
    doubled = {**PARAMS, "norm": jax.tree.map(lambda x: 2 * x, PARAMS["norm"])}
    found = jax.jit(lambda params: MODEL.apply(params, {}, TOKENS)[0])(doubled)
    np.testing.assert_allclose(found, 2 * logits(TOKENS), rtol=1e-4, atol=1e-4)


def test_a_classifier_reads_the_last_token():
    """With the transposed embedding as its kernel, its classes are the next tokens."""
    sizes = dict(vocabulary=11, length=12, width=16, depth=2, heads=2)
    model = from_nnx(lambda rngs: GPT(**sizes, num_classes=11, rngs=rngs))
    head = {"kernel": PARAMS["embed"]["embedding"].T, "bias": np.zeros(11, np.float32)}
    classes = jax.jit(lambda *inputs: model.apply({**PARAMS, "classifier": head}, {}, *inputs)[0])
    segments = np.array([[1] * 12, [1] * 7 + [0] * 5, [1] + [0] * 11])
    expected = logits(TOKENS, segments)[np.arange(3), [11, 6, 0]]
    np.testing.assert_allclose(classes(TOKENS, segments), expected, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(classes(TOKENS), logits(TOKENS)[:, -1], rtol=1e-4, atol=1e-4)
    with pytest.raises(UserError, match="num_classes=2 with experts; expected one of them"):
        jax.eval_shape(
            from_nnx(lambda rngs: GPT(**sizes, num_classes=2, experts={"number": 2}, rngs=rngs)).init, jax.random.key(0)
        )


def test_dropout_needs_and_uses_the_key():
    model = from_nnx(lambda rngs: GPT(vocabulary=11, length=12, width=8, depth=1, heads=2, dropout=0.5, rngs=rngs))
    params, _ = fresh(model)
    trained = jax.jit(lambda key: model.apply(params, {}, TOKENS, key=key, train=True)[0])
    one, other = (trained(jax.random.key(i)) for i in (1, 2))
    assert (np.asarray(one) != np.asarray(other)).any()


def test_a_row_longer_than_the_model_is_an_error():
    with pytest.raises(UserError, match="rows of 13 tokens are longer"):
        logits(jnp.zeros((1, 13), int))


@pytest.mark.parametrize("token", [-1, 11])
def test_a_token_out_of_range_makes_its_row_nan(token):
    tokens = TOKENS.copy()
    tokens[1, 4] = token
    found = np.isnan(logits(tokens)).all((1, 2))
    assert found.tolist() == [False, True, False]
