"""Word vectors: closed-form gradients, the factorisation of PMI, GloVe's formula, contexts and counts by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import expit

from research.core import Ctx, draw
from research.data.text.windows import cooccurrences, corpus, windows
from research.errors import UserError
from research.models.word_vectors import word_vectors
from research.objectives.word_vectors import cbow, glove, negatives, noise, skip_gram

TEXTS = ["a b a c a b".split(), "b c d".split(), "a a b d d c".split(), ["x"]]
MADE = corpus(TEXTS, least=2)
KEY = jax.random.key(0)


def params_of(rng, *, biases=False):
    model = word_vectors(4, 3, biases=biases)
    params = model.init(KEY)[0]
    return {name: jnp.asarray(rng.normal(size=x.shape), jnp.float32) for name, x in params.items()}


def grads_of(loss, params, batch, key=KEY):
    return jax.jit(jax.grad(lambda p: loss(p, Ctx(batch, {}, key, jnp.int32(0)))[0]))(params)


def test_a_corpus_has_the_frequent_words_only():
    assert MADE.words == ("a", "b", "c", "d") and MADE.counts.tolist() == [5, 4, 3, 3]
    assert MADE.texts.tolist() == [0] * 6 + [1] * 3 + [2] * 6 and len(MADE.tokens) == 15
    with pytest.raises(UserError, match="no word of 4 texts occurs 9 times"):
        corpus(TEXTS, least=9)


def test_contexts_are_those_of_the_text():
    source = windows(MADE, 5, window=2, subsample=None)
    batches = [source(3)(step) for step in range(3000)]
    centers = np.concatenate([b["center"] for b in batches[:3]])
    assert sorted(centers) == sorted(MADE.tokens), "each position once per epoch"
    again = source(3)(2000)
    np.testing.assert_equal(again, batches[2000])
    contexts = np.concatenate([b["contexts"] for b in batches])
    share = (contexts >= 0).mean(0)
    # Of 15 places, 12 have a neighbour on a side, and 9 one at distance 2, which is in reach half of the time.
    np.testing.assert_allclose(share, [4.5 / 15, 12 / 15, 12 / 15, 4.5 / 15], atol=0.02)
    rows = source(3)(7, rows=np.array([1, 4]))
    np.testing.assert_array_equal(rows["center"], source(3)(7)["center"][[1, 4]])


def test_frequent_words_are_left_out():
    source = windows(MADE, 15, window=1, subsample=0.1)
    real = np.zeros(4)
    for step in range(2000):
        batch = source(0)(step)
        np.add.at(real, batch["contexts"][batch["contexts"] >= 0], 1)
    kept = np.minimum(1, np.sqrt(0.1 / (MADE.counts / 15)))
    pairs = cooccurrences(MADE, window=1).columns
    expected = np.zeros(4)
    np.add.at(expected, pairs["column"], pairs["count"] * kept[pairs["row"]])
    # A word beside itself, as in "a a", is drawn once per place: the two are independent all the same.
    np.testing.assert_allclose(real / 2000, expected * kept, rtol=0.05)


def test_gradients_of_skip_gram_and_cbow_are_the_closed_form():
    params = params_of(np.random.default_rng(0))
    w, c = (np.asarray(params[name], np.float64) for name in ("words", "contexts"))
    batch = {"center": np.array([0, 2, 1]), "contexts": np.array([[1, -1], [3, 0], [-1, -1]])}
    counts = MADE.counts
    drawn = np.asarray(negatives(draw(KEY, "negatives"), noise(counts), shape=(3, 2, 5)))
    of_w, of_c = np.zeros_like(w), np.zeros_like(c)
    for b, j in ((0, 0), (1, 0), (1, 1)):
        center, context = batch["center"][b], batch["contexts"][b, j]
        pairs = [(context, expit(w[center] @ c[context]) - 1)]
        pairs += [(n, expit(w[center] @ c[n])) for n in drawn[b, j]]
        for word, error in pairs:
            of_w[center] += error * c[word] / 3
            of_c[word] += error * w[center] / 3
    found = grads_of(skip_gram(counts), params, batch)
    np.testing.assert_allclose(found["words"], of_w, atol=1e-6)
    np.testing.assert_allclose(found["contexts"], of_c, atol=1e-6)

    drawn = np.asarray(negatives(draw(KEY, "negatives"), noise(counts), shape=(3, 5)))
    of_w, of_c = np.zeros_like(w), np.zeros_like(c)
    for b, contexts in ((0, [1]), (1, [3, 0])):
        h = w[contexts].mean(0)
        for word, error in [(batch["center"][b], expit(h @ c[batch["center"][b]]) - 1),
                            *((n, expit(h @ c[n])) for n in drawn[b])]:  # fmt: skip
            of_c[word] += error * h / 2
            of_w[contexts] += error * c[word] / len(contexts) / 2
    found = grads_of(cbow(counts), params, batch)
    np.testing.assert_allclose(found["words"], of_w, atol=1e-6)
    np.testing.assert_allclose(found["contexts"], of_c, atol=1e-6)


def test_the_optimum_of_skip_gram_is_pmi_minus_log_k():
    pairs = np.random.default_rng(1).integers(1, 9, (4, 4))
    pairs = pairs + pairs.T
    shares = pairs / pairs.sum()
    pmi = np.log(shares / np.outer(shares.sum(1), shares.sum(0)))
    center, context = np.nonzero(pairs)
    repeats = pairs[center, context]
    batch = {"center": np.repeat(center, repeats), "contexts": np.repeat(context, repeats)[:, None]}
    loss = skip_gram(pairs.sum(0), samples=3, power=1.0)
    keys = draw(0, "keys", jnp.arange(400))
    for shift, optimal in ((0.0, True), (0.3, False)):
        table = jnp.asarray(pmi - np.log(3) + shift, jnp.float32)
        params = {"words": jnp.eye(4), "contexts": table.T}
        grads = jax.vmap(lambda key, params=params: grads_of(loss, params, batch, key)["contexts"])(keys)
        errors = np.abs(grads.mean(0)) / (grads.std(0) / np.sqrt(len(keys)) + 1e-9)
        assert (errors.max() < 4) == optimal


def test_negatives_follow_the_power_of_the_counts():
    drawn = np.asarray(negatives(KEY, noise(np.array([1, 16, 0, 81])), shape=(40_000,)))
    np.testing.assert_allclose(np.bincount(drawn, minlength=4) / 40_000, np.array([1, 8, 0, 27]) / 36, atol=0.01)
    with pytest.raises(UserError, match="samples=0"):
        skip_gram(MADE.counts, samples=0)


def test_the_counts_of_glove_and_its_loss():
    found = cooccurrences(corpus(["a b a c".split()], least=1), window=2)
    table = np.zeros((3, 3))
    table[found.columns["row"], found.columns["column"]] = found.columns["count"]
    # a b, b a, a c are neighbours; a _ a and b _ c are two apart, and count a half, in both orders.
    np.testing.assert_allclose(table, [[1, 2, 1], [2, 0, 0.5], [1, 0.5, 0]])
    params = params_of(np.random.default_rng(2), biases=True)
    batch = {"row": np.array([0, 1]), "column": np.array([3, 1]), "count": np.array([7.0, 250.0], np.float32)}
    mean, out = glove()(params, Ctx(batch, {}, KEY, jnp.int32(0)))
    expected = 0
    for i, j, x in zip(*batch.values(), strict=True):
        score = params["words"][i] @ params["contexts"][j] + params["word_bias"][i] + params["context_bias"][j]
        expected += min(1, (x / 100) ** 0.75) * (score - np.log(x)) ** 2 / 2
    assert float(mean) == pytest.approx(float(expected), rel=1e-5) and float(out.metrics["loss"].weight) == 2


def test_the_model_looks_up_words():
    model = word_vectors(5, 2)
    params, stats = model.init(KEY)
    assert set(params) == {"words", "contexts"} and float(jnp.abs(params["words"]).max()) <= 0.25
    np.testing.assert_array_equal(model.apply(params, stats, np.array([3]))[0][0], params["words"][3])
