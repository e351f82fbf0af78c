"""Decoding with an encoder-decoder: a target sequence for each source sequence, greedily or by beam search."""

from __future__ import annotations

import jax.numpy as jnp

from research.axes import Array, Integer
from research.core import Trained
from research.decoding.beam import beam_search
from research.decoding.decoder import Decoder, last_logits
from research.decoding.rules import Rule
from research.decoding.sampling import Generated, generate
from research.layers.cache import NewCache


def encoder_decoder(
    trained: Trained, source: Integer[Array, "batch keys"], segments: Integer[Array, "batch keys"]
) -> Decoder:
    """Return the Decoder of an encoder-decoder, such as a T5 or those of `models.seq2seq`, for these sources.

    `segments` are 1, and 0 for the padding of the source. `trained(source, tokens, segments, target_segments, cache)`
    returns (logits, cache); see `T5`. A state is this cache. The source is encoded once, at the start.
    """
    return Decoder(_start, _step, (trained, source, segments))


def translate(
    trained: Trained,
    source: Integer[Array, "batch keys"],
    *,
    begin: int,
    end: int,
    count: int,
    beams: int = 1,
    length_penalty: float = 1.0,
    rules: tuple[Rule, ...] = (),
) -> Generated:
    """Return the targets of at most `count` tokens for sources padded with 0: without `begin`, up to the token `end`.

    With one beam, each token is the most likely one; with more, the target is the best of `beam_search`.
    """
    decoder = encoder_decoder(trained, source, (source != 0).astype(jnp.int32))
    prompts = jnp.full((len(source), 1), begin, jnp.int32)
    options = dict(lengths=jnp.ones(len(source), jnp.int32), count=count, end=end, rules=rules)
    if beams == 1:
        return generate(decoder, prompts, **options)
    found = beam_search(decoder, prompts, beams=beams, length_penalty=length_penalty, **options)
    return Generated(found.tokens[:, 0], found.lengths[:, 0])


def _start(variables, prompts, *, lengths, room):
    trained, source, source_segments = variables
    segments = (jnp.arange(prompts.shape[1]) < lengths[:, None]).astype(jnp.int32)
    logits, cache = trained(source, prompts, source_segments, segments, NewCache(prompts.shape[1] + room))
    return cache, last_logits(logits, lengths)


def _step(variables, cache, tokens):
    logits, cache = variables[0](None, tokens[:, None], None, None, cache)
    return cache, logits[:, 0].astype(jnp.float32)
