"""What a language model's evaluation measures."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from research import losses
from research.core import weighted_mean
from research.fields import inputs, targets


class Perplexity(NamedTuple):
    """exp of the mean nats a token; the sums are what adds up."""

    nats: jax.Array
    tokens: jax.Array

    def value(self) -> jax.Array:
        """1 where there were no tokens."""
        return jnp.exp(self.nats / (self.tokens + (self.tokens == 0)))


class BitsPerByte(NamedTuple):
    """All nats of the text in bits, over its bytes: comparable between vocabularies, and with compressors."""

    nats: jax.Array
    bytes: jax.Array

    def value(self) -> jax.Array:
        """0 where there were no bytes."""
        return self.nats / (self.bytes + (self.bytes == 0)) / math.log(2)


def measure_language(*, bytes_of=None):
    """The measure of an Eval on {"tokens", "segments", "positions"}: loss (nats a token), accuracy, perplexity, and
    bits_per_byte where `bytes_of(labels)` says how many bytes of text each token int [B, T] stands for.
    """

    def measure(apply, params, stats, batch):
        logits, _ = apply(params, stats, *inputs(batch), train=False)
        labels, weights = targets(batch)
        loss = weighted_mean(losses.cross_entropy(logits, labels), weights)
        measured = {
            "loss": loss,
            "accuracy": weighted_mean(losses.hits(logits, labels), weights),
            "perplexity": Perplexity(*loss),
        }
        if bytes_of:
            measured["bits_per_byte"] = BitsPerByte(loss.sum, jnp.sum(bytes_of(labels) * weights))
        return measured

    return measure
