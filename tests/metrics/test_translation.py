"""Measures of encoder-decoders on a table of logits, whose best targets are known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Eval, State
from research.data import arrays, eval_batches
from research.distributed.sharding import make_mesh
from research.errors import UserError
from research.evaluate import evaluator
from research.metrics.edits import mismatch_rate, word_error_rate
from research.metrics.slices import bands, sliced
from research.metrics.texts import text_scores
from research.metrics.translation import decode_pairs, given_pairs, measure_pairs

BEGIN, END = 1, 2
SOURCE = np.array([[3, 4, 0], [4, 0, 0], [4, 3, 3]])
TARGET = np.array([[1, 3, 4, 2], [1, 3, 2, 0], [1, 4, 3, 2]])
DATA = arrays(source=SOURCE, target=TARGET, guess=TARGET[::-1].copy(), size=np.array([2, 1, 3]))
WORDS = lambda ids: " ".join("abc"[i - 3] for i in ids if i > 2)


def copying(params, stats, source, tokens, source_segments=None, segments=None, cache=None, *, key=None, train=False):
    """A network that copies its source, then writes END. Its cache: the source, and the place in it."""
    source, place = (source, jnp.zeros(len(source), int)) if source is not None else cache
    places = place[:, None] + jnp.arange(tokens.shape[1])
    padded = jnp.pad(source, ((0, 0), (0, 9)))
    following = jnp.take_along_axis(padded, places, 1)
    logits = 5.0 * jax.nn.one_hot(jnp.where(following == 0, END, following), 6)
    return logits if cache is None else (logits, (source, place + tokens.shape[1])), stats


def run(ev):
    state = State(None, None, None, jnp.zeros(()), {}, None)
    apply = lambda *inputs, **options: copying(*inputs, **options)
    return evaluator(ev, apply, mesh=make_mesh({"data": 1}, devices=jax.devices()[:1]))(state)


@pytest.mark.parametrize("beams", [1, 2])
def test_decoded_targets_are_scored_over_all_batches_and_on_slices(beams):
    finish = text_scores(WORDS, wer=word_error_rate, wrong=mismatch_rate)
    measure = decode_pairs(begin=BEGIN, end=END, count=4, beams=beams)
    ev = Eval(eval_batches(DATA, 2), measure, finish=finish)
    found = run(sliced(ev, by={"size": bands(lambda batch: batch["size"], (3,))}, lower=["wrong"]))
    assert found.arrays["texts"].tolist() == [["a b", "a b", "a b"], ["b", "a", "b"], ["b a a", "b a", "b a a"]]
    assert found.numbers["wrong"] == pytest.approx(2 / 3) and found.numbers["wer"] == pytest.approx(2 / 5)
    np.testing.assert_allclose(found.arrays["slices/size/wrong"], [1 / 2, 1])
    assert run(ev).numbers["wrong"] == found.numbers["wrong"]


def test_the_hypotheses_of_a_baseline_are_a_field():
    finish = text_scores(WORDS, wrong=mismatch_rate)
    found = run(Eval(eval_batches(DATA, 2), given_pairs("guess"), finish=finish))
    assert found.arrays["texts"][:, 2].tolist() == ["b a", "a", "a b"]
    assert found.numbers["wrong"] == pytest.approx(2 / 3)
    with pytest.raises(UserError, match="unknown batch field 'gues'. Did you mean 'guess'"):
        run(Eval(eval_batches(DATA, 2), given_pairs("gues"), finish=finish))


def test_the_loss_is_that_of_the_next_tokens():
    found = run(Eval(eval_batches(DATA, 2), measure_pairs)).numbers
    right, wrong = (np.log(np.exp(5.0) + 5) - x for x in (5.0, 0.0))
    # Of eight tokens, "a" for "b" and the end before the third letter are wrong.
    expected = (6 * right + 2 * wrong) / 8
    assert found["loss"] == pytest.approx(expected) and found["accuracy"] == pytest.approx(6 / 8)
    assert found["perplexity"] == pytest.approx(np.exp(expected))
