"""Decoding of encoder-decoders against transformers, against teacher forcing, and against every possible sequence."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from research.core import Trained
from research.decoding.beam import beam_search
from research.decoding.encoder_decoder import encoder_decoder, translate
from research.decoding.sampling import generate
from research.errors import UserError
from research.layers.cache import NewCache
from research.layers.stack import Stack
from research.model import from_nnx
from research.models.seq2seq import AdditiveSeq2Seq
from research.models.t5 import T5
from tests.models.fresh import fresh
from tests.weights.test_decoders import opened

BEGIN, END, COUNT, VOCABULARY = 1, 2, 3, 4
SIZES = dict(source_vocabulary=VOCABULARY, vocabulary=VOCABULARY, width=8)
SMALL = dict(vocabulary=VOCABULARY, width=8, depth=1, heads=2, head_width=4, hidden=8, buckets=4, max_distance=6)
MODELS = {
    "additive": lambda rngs: AdditiveSeq2Seq(**SIZES, embedding=4, maxout=4, rngs=rngs),
    "t5": lambda rngs: T5(**SMALL, rngs=rngs),
}
SOURCE = np.array([[1, 3, 2, 3], [2, 3, 0, 0], [1, 1, 1, 0]])
# Every target of up to COUNT tokens: it ends with END, or has COUNT tokens.
ROWS = [
    row
    for size in range(1, COUNT + 1)
    for row in itertools.product(range(VOCABULARY), repeat=size)
    if END not in row[:-1] and (row[-1] == END or size == COUNT)
]
FILLED = np.array([[*row, *[END] * (COUNT - len(row))] for row in ROWS])


@pytest.mark.parametrize("name", MODELS)
def test_greedy_is_the_teacher_forced_argmax_and_beams_find_the_best_of_all_targets(name):
    model = from_nnx(MODELS[name])
    trained = Trained(model.apply, *fresh(model, scale=0.8))
    options = dict(begin=BEGIN, end=END, count=COUNT)
    after_begin = lambda rows: jnp.pad(rows[..., :-1], [*[(0, 0)] * (rows.ndim - 1), (1, 0)], constant_values=BEGIN)

    @jax.jit
    def run(trained, source):
        segments = (source != 0).astype(int)
        greedy, best = (translate(trained, source, beams=beams, **options).tokens for beams in (1, len(ROWS)))
        plain = dict(lengths=jnp.ones(len(source), int), count=COUNT)
        decoder, prompts = encoder_decoder(trained, source, segments), jnp.full((len(source), 1), BEGIN)
        one = beam_search(decoder, prompts, beams=1, **plain).tokens[:, 0], generate(decoder, prompts, **plain).tokens
        forced = trained(source, after_begin(greedy), segments)
        spread = lambda x: jnp.repeat(x, len(ROWS), axis=0)
        every = trained(spread(source), jnp.tile(after_begin(FILLED), (len(source), 1)), spread(segments))
        return greedy, best, one, forced, jax.nn.log_softmax(every).reshape(len(source), len(ROWS), COUNT, -1)

    greedy, best, one, forced, log_p = map(np.asarray, run(trained, SOURCE))
    np.testing.assert_array_equal(*one)
    ended = np.cumsum(greedy == END, 1) - (greedy == END) > 0
    np.testing.assert_array_equal(greedy, np.where(ended, END, forced.argmax(-1)))
    for found, each in zip(best, log_p, strict=True):
        scores = [
            sum(each[j, t, token] for t, token in enumerate(row)) / len(row) for j, row in enumerate(ROWS)
        ]  # fmt: skip
        np.testing.assert_array_equal(found, FILLED[np.argmax(scores)])


def test_greedy_tokens_of_t5_equal_those_of_transformers(tmp_path):
    case, trained, _ = opened("t5", tmp_path)
    source, greedy = case.truth["source"], case.truth["greedy"]  # begins with token 0
    segments = (np.arange(source.shape[1]) < case.truth["lengths"][:, None]).astype(int)
    options = dict(lengths=np.ones(len(source), int), count=greedy.shape[1] - 1)
    run = lambda t: generate(encoder_decoder(t, source, segments), greedy[:, :1], **options).tokens
    np.testing.assert_array_equal(jax.jit(run)(trained), greedy[:, 1:])


def test_a_t5_continues_prompts_of_different_lengths_and_several_tokens():
    model = from_nnx(MODELS["t5"])
    params, stats = fresh(model, scale=0.8)
    call = jax.jit(lambda *inputs: model.apply(params, stats, *inputs)[0])
    segments, tokens = (SOURCE != 0).astype(int), np.random.default_rng(0).integers(VOCABULARY, size=(3, 6))
    whole = call(SOURCE, tokens, segments)
    lengths = np.array([1, 3, 2])
    first, cache = call(SOURCE, tokens[:, :3], segments, (np.arange(3) < lengths[:, None]).astype(int), NewCache(6))
    rest = np.stack([row[n : n + 3] for row, n in zip(tokens, lengths, strict=True)])
    then, _ = call(None, rest, None, None, cache)
    for row, n in enumerate(lengths):
        np.testing.assert_allclose(first[row, :n], whole[row, :n], atol=1e-5)
        np.testing.assert_allclose(then[row], whole[row, n : n + 3], atol=1e-5)


def test_stacked_blocks_have_no_cache():
    model = from_nnx(lambda rngs: T5(**SMALL, stack=Stack, rngs=rngs))
    trained = Trained(model.apply, *jax.eval_shape(model.init, jax.random.key(0)))
    with pytest.raises(UserError, match="a T5 with stacked blocks has no cache"):
        jax.eval_shape(lambda t: translate(t, SOURCE, begin=BEGIN, end=END, count=COUNT), trained)
