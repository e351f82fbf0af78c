import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax

from research.core import Ctx, Trained
from research.errors import UserError
from research.layers.crf import Chain, chain_loss
from research.model import from_nnx
from research.models.parser import FORBIDDEN, Parser, heads_in_row, parse
from research.models.spanning_tree import best_tree
from research.models.tagger import Tagger, predict_tags
from research.objectives.dependencies import dependencies
from research.objectives.tag import tag
from tests.models.fresh import fresh

SIZES = dict(vocabulary=9, alphabet=7, width=4, filters=5, hidden=3, dropout=0.0)
SEGMENTS = np.array([[1, 1, 1, 2, 2, 0], [1, 1, 1, 1, 1, 1]], np.int32)
GENERATOR = np.random.default_rng(0)
BATCH = {
    "words": GENERATOR.integers(1, 9, SEGMENTS.shape).astype(np.int32) * (SEGMENTS > 0),
    "characters": GENERATOR.integers(0, 7, (*SEGMENTS.shape, 4)).astype(np.int32),
    "segments": SEGMENTS,
    "tags": np.where(SEGMENTS > 0, GENERATOR.integers(0, 5, SEGMENTS.shape), -1).astype(np.int32),
    "heads": np.array([[2, 0, 2, 2, 0, -1], [0, 1, 2, 3, 4, 5]], np.int32),
    "relations": np.where(SEGMENTS > 0, GENERATOR.integers(0, 3, SEGMENTS.shape), -1).astype(np.int32),
}


@functools.cache
def made(layer, **options):
    model = from_nnx(lambda rngs: layer(**SIZES, **options, rngs=rngs))
    params, stats = fresh(model)
    if "crf" in params:
        params["crf"] = jax.jit(lambda key: model.init(key)[0]["crf"])(jax.random.key(0))
    return model, Trained(model.apply, params, stats)


@jax.jit
def scored(trained, *inputs):
    return trained(*inputs)


def with_row(name, row, values):
    return {**BATCH, name: np.concatenate([BATCH[name][:row], np.array([values], np.int32), BATCH[name][row + 1 :]])}


def context(batch, trained):
    return Ctx(batch, trained.stats, jax.random.key(1), jnp.int32(0))


def test_a_sentence_does_not_see_its_neighbour_in_the_row():
    _, trained = made(Tagger, tags=5)
    inputs = lambda batch: (batch["words"], batch["characters"], batch["segments"])
    words = BATCH["words"][0].copy()
    words[3:5] = words[3:5] % 8 + 1
    before, after = (scored(trained, *inputs(batch)) for batch in (BATCH, with_row("words", 0, words)))
    np.testing.assert_allclose(before[0, :3], after[0, :3], atol=1e-6)
    assert abs(before[0, 3:5] - after[0, 3:5]).max() > 1e-3


def test_the_order_of_characters_counts_and_their_padding_does_not():
    _, trained = made(Tagger, tags=5)
    word = BATCH["words"][:1, :1], SEGMENTS[:1, :1]
    spelled = lambda letters: scored(trained, word[0], np.array([[letters]], np.int32), word[1])
    np.testing.assert_allclose(spelled([2, 3, 4]), spelled([2, 3, 4, 0, 0]), atol=1e-6)
    assert abs(spelled([2, 3, 4]) - spelled([4, 3, 2])).max() > 1e-3
    _, plain = made(Tagger, tags=5, crf=False)
    no_letters = from_nnx(lambda rngs: Tagger(**{**SIZES, "alphabet": 0}, tags=5, rngs=rngs))
    assert "characters" in plain.params["encoder"]
    assert "characters" not in jax.eval_shape(no_letters.init, jax.random.key(0))[0]["encoder"]


def test_the_loss_is_the_mean_over_words_with_and_without_a_crf():
    for crf in (False, True):
        model, trained = made(Tagger, tags=5, crf=crf)
        loss = jax.jit(tag(model))
        value, out = loss(trained.params, context(BATCH, trained))
        scores = scored(trained, BATCH["words"], BATCH["characters"], SEGMENTS)
        unary = scores.unary if crf else scores
        nats = -np.take_along_axis(log_softmax(unary, -1), np.maximum(BATCH["tags"], 0)[..., None], -1)[..., 0]
        assert float(value) == pytest.approx(float(nats[SEGMENTS > 0].mean()), rel=1e-5)  # transitions start at 0
        assert float(out.metrics["loss"].weight) == 11
        masked = {**BATCH, "mask": np.array([1, 0])}
        value, out = loss(trained.params, context(masked, trained))
        assert float(value) == pytest.approx(float(nats[0][SEGMENTS[0] > 0].mean()), rel=1e-5)


def test_tags_are_decoded_by_viterbi_if_there_is_a_chain():
    _, trained = made(Tagger, tags=5)
    predicted = jax.jit(predict_tags)
    best = predicted(trained, BATCH)
    assert (best == scored(trained, BATCH["words"], BATCH["characters"], SEGMENTS).argmax(-1)).all()
    _, chained = made(Tagger, tags=5, crf=True)
    stay = {**chained.params, "crf": {**chained.params["crf"], "pairwise": 100 * jnp.eye(5)}}
    found = np.asarray(predicted(Trained(chained.apply, stay, chained.stats), BATCH))
    assert all(len(set(found[row, SEGMENTS[row] == n].tolist())) == 1 for row, n in ((0, 1), (0, 2), (1, 1)))
    scores = scored(Trained(chained.apply, stay, chained.stats), BATCH["words"], BATCH["characters"], SEGMENTS)
    assert isinstance(scores, Chain)
    assert (jax.jit(lambda chain, tags: chain_loss(chain, tags, segments=SEGMENTS))(scores, found) < 5).all()


def test_arcs_stay_within_the_sentence():
    _, trained = made(Parser, relations=3, arc=4, relation=2)
    arcs = np.asarray(scored(trained, BATCH["words"], BATCH["characters"], SEGMENTS).arcs)
    allowed = np.zeros_like(arcs, bool)
    allowed[:, :, 0] = True
    allowed[:, :, 1:] = (SEGMENTS[:, None] == SEGMENTS[..., None]) & ~np.eye(6, dtype=bool)
    assert ((arcs > FORBIDDEN / 2) == allowed).all()


def test_scores_of_pairs_are_those_of_the_definition():
    _, trained = made(Parser, relations=3, arc=4, relation=2)
    found = scored(trained, BATCH["words"], BATCH["characters"], SEGMENTS)
    p = jax.device_get(trained.params)
    tagger = Trained(from_nnx(lambda rngs: Tagger(**SIZES, tags=6, rngs=rngs)).apply, {
        "encoder": p["encoder"], "head": {"kernel": np.eye(6), "bias": np.zeros(6)}}, {})  # fmt: skip
    # The encoder's outputs of the second row.
    x = np.asarray(scored(tagger, BATCH["words"], BATCH["characters"], SEGMENTS)[1])
    heads = np.concatenate([p["root"][None], x])
    side = lambda name, x: np.maximum(x @ p["sides"][name]["kernel"] + p["sides"][name]["bias"], 0)
    d, h = side("dependent", x)[4], side("head", heads)[2]
    score = d @ p["arc"]["kernel"] @ h + p["arc"]["bias"] @ h
    np.testing.assert_allclose(found.arcs[1, 4, 2], score, rtol=1e-4)
    c, q = side("child", x)[4], side("parent", heads)[2]
    maps = (c @ p["relation"]["kernel"] + p["relation"]["bias"]).reshape(3, 3)
    np.testing.assert_allclose(found.relations[1, 4, 2], maps[:, :2] @ q + maps[:, 2], rtol=1e-4)


def test_heads_are_those_of_the_best_tree_and_convert_to_places():
    assert heads_in_row(BATCH["heads"], SEGMENTS).tolist() == [[2, 0, 2, 5, 0, 0], [0, 1, 2, 3, 4, 5]]
    _, trained = made(Parser, relations=3, arc=4, relation=2)
    scores = jax.device_get(scored(trained, BATCH["words"], BATCH["characters"], SEGMENTS))
    found = jax.device_get(jax.jit(parse)(trained, BATCH))
    assert found.heads[0, 3:].tolist() == [*best_tree(scores.arcs[0, 3:5][:, [0, 4, 5]]).tolist(), 0]
    assert found.heads[1].tolist() == best_tree(scores.arcs[1]).tolist()
    places = heads_in_row(found.heads, SEGMENTS)
    assert found.relations[1, 2] == scores.relations[1, 2, places[1, 2]].argmax()


def test_the_loss_of_a_parser_is_that_of_heads_and_relations():
    model, trained = made(Parser, relations=3, arc=4, relation=2)
    value, out = jax.jit(dependencies(model))(trained.params, context(BATCH, trained))
    scores = jax.device_get(scored(trained, BATCH["words"], BATCH["characters"], SEGMENTS))
    nats, heads = 0.0, np.asarray(heads_in_row(BATCH["heads"], SEGMENTS))
    for row, column in zip(*np.nonzero(SEGMENTS), strict=True):
        head = heads[row, column]
        nats -= log_softmax(scores.arcs[row, column])[head]
        nats -= log_softmax(scores.relations[row, column, head])[BATCH["relations"][row, column]]
    assert float(value) == pytest.approx(float(nats) / 11, rel=1e-5) and float(out.metrics["heads"].weight) == 11
    with pytest.raises(UserError, match="unknown batch field 'relations'"):
        without = {name: x for name, x in BATCH.items() if name != "relations"}
        jax.eval_shape(dependencies(model), trained.params, context(without, trained))
