"""Recurrent encoder-decoders against the same networks made of PyTorch's cells; decoding step by step."""

import functools

import jax
import numpy as np
import pytest

from research.distributed.sharding import path_name
from research.layers.cache import NewCache
from research.model import from_nnx
from research.models.seq2seq import AdditiveSeq2Seq, MultiplicativeSeq2Seq, PlainSeq2Seq
from tests.models.fresh import fresh
from tests.truth import load

TRUTH = load("torch_seq2seq")
SEGMENTS = (TRUTH["source"] != 0).astype(int)
BUILDS = {
    "additive": lambda rngs, **o: AdditiveSeq2Seq(
        source_vocabulary=6, vocabulary=5, embedding=3, width=4, maxout=2, rngs=rngs, **o
    ),
    "multiplicative": lambda rngs, **o: MultiplicativeSeq2Seq(
        source_vocabulary=6, vocabulary=5, width=4, depth=2, rngs=rngs, **o
    ),
    "plain": lambda rngs, **o: PlainSeq2Seq(source_vocabulary=6, vocabulary=5, width=4, rngs=rngs, **o),
}
close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BUILDS)
def test_logits_and_gradients_are_those_of_pytorch(name):
    model = from_nnx(BUILDS[name])
    shapes = jax.eval_shape(model.init, jax.random.key(0))[0]
    stored = {key for key in TRUTH if key.startswith(f"{name}/params/")}
    params = jax.tree.map_with_path(lambda path, x: TRUTH[f"{name}/params/{path_name(path)}"], shapes)
    assert len(stored) == len(jax.tree.leaves(params))

    def total(params):
        logits = model.apply(params, {}, TRUTH["source"], TRUTH["tokens"], SEGMENTS)[0]
        return (logits * TRUTH[f"{name}/weights"]).sum(), logits

    (_, logits), gradients = jax.jit(jax.value_and_grad(total, has_aux=True))(params)
    close(logits, TRUTH[f"{name}/logits"])
    jax.tree.map_with_path(lambda path, x: close(x, TRUTH[f"{name}/gradients/{path_name(path)}"]), gradients)


@pytest.mark.parametrize("name", BUILDS)
def test_steps_with_a_state_equal_the_whole_and_ignore_padding(name):
    model = from_nnx(BUILDS[name])
    params, stats = fresh(model, scale=0.6)
    source, tokens = TRUTH["source"], np.array([[1, 2, 3, 4], [1, 4, 2, 3]])
    call = jax.jit(lambda *inputs: model.apply(params, stats, *inputs)[0])
    whole = call(source, tokens, SEGMENTS)
    padded, real = np.array([[1, 2, 4], [1, 4, 4]]), np.array([[1, 1, 0], [1, 0, 0]])  # prompts of two tokens and one
    first, state = call(source, padded, SEGMENTS, real, NewCache(5))
    close(first[0, :2], whole[0, :2])
    close(first[1, :1], whole[1, :1])
    assert {x.shape[0] for x in jax.tree.leaves(state)} == {2}
    second, state = call(None, np.array([[3], [4]]), None, None, state)
    close(second[:, 0], np.stack([whole[0, 2], whole[1, 1]]))
    third, _ = call(None, np.array([[4], [2]]), None, None, state)
    close(third[:, 0], np.stack([whole[0, 3], whole[1, 2]]))


@pytest.mark.parametrize("name", BUILDS)
def test_padding_of_the_source_changes_nothing_and_an_empty_source_is_finite(name):
    model = from_nnx(BUILDS[name])
    params, stats = fresh(model, scale=0.6)
    tokens = np.array([[1, 2, 3]])
    logits = jax.jit(lambda source, segments: model.apply(params, stats, source, tokens, segments)[0])
    short = logits(np.array([[3, 1]]), np.ones((1, 2), int))
    close(short, logits(np.array([[3, 1, 2, 5]]), np.array([[1, 1, 0, 0]])))
    assert np.isfinite(logits(np.array([[3, 3]]), np.zeros((1, 2), int))).all()


@pytest.mark.parametrize("name", BUILDS)
def test_dropout_is_for_training(name):
    model = from_nnx(lambda rngs: BUILDS[name](rngs, dropout=0.5))
    params, stats = fresh(model, scale=0.6)
    inputs = TRUTH["source"], TRUTH["tokens"], SEGMENTS
    without = from_nnx(BUILDS[name])
    plain, expected = jax.jit(lambda: [m.apply(params, stats, *inputs)[0] for m in (model, without)])()
    close(plain, expected)
    drawn = jax.jit(lambda key: model.apply(params, stats, *inputs, key=key, train=True)[0])
    dropped = [np.asarray(drawn(jax.random.key(i))) for i in (0, 1)]
    assert (dropped[0] != plain).any() and (dropped[0] != dropped[1]).any()


@pytest.mark.parametrize("name", BUILDS)
def test_dropout_is_before_the_output_and_before_attention(name):
    """At the rate 1 the logits are the bias, and a query of zeros averages the memory."""
    model = from_nnx(lambda rngs: BUILDS[name](rngs, dropout=1.0))
    params, stats = fresh(model, scale=0.6)
    inputs = TRUTH["source"], TRUTH["tokens"], SEGMENTS, None, NewCache(1)
    run = jax.jit(lambda key: model.apply(params, stats, *inputs, key=key, train=True)[0])
    logits, cache = jax.device_get(run(jax.random.key(0)))
    close(logits, np.broadcast_to(params["head"]["bias"], logits.shape))
    if name == "multiplicative":
        memory, state = cache
        mean = (memory.values * memory.mask[..., None]).sum(1) / memory.mask.sum(1, keepdims=True)
        close(state[1], np.tanh(mean @ params["combine"]["kernel"][: mean.shape[1]]))
