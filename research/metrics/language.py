"""The measure of a language model's evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax.numpy as jnp

from research import losses
from research.axes import Scalar
from research.core import Trained, weighted_mean
from research.fields import inputs, targets


class Perplexity(NamedTuple):
    """exp of the mean loss in nats per unit: a token, a word or a byte. States add up."""

    nats: Scalar
    units: Scalar

    def value(self) -> Scalar:
        """Return the perplexity, or 1 without units."""
        return jnp.exp(self.nats / (self.units + (self.units == 0)))


class BitsPerByte(NamedTuple):
    """The loss of the text in bits, divided by its bytes. States add up.

    It is comparable between vocabularies, and with compressors.
    """

    nats: Scalar
    bytes: Scalar

    def value(self) -> Scalar | float:
        """Return the bits per byte, or 0 without bytes."""
        return self.nats / (self.bytes + (self.bytes == 0)) / math.log(2)


def measure_language(*, bytes_of: Callable | None = None, words_of: Callable | None = None) -> Callable:
    """Return the measure of a language model's Eval: loss (nats per token), accuracy and perplexity.

    Batches hold "tokens", "segments" and "positions". If `bytes_of(labels)` returns the number of bytes of each token's
    text, the measure adds bits_per_byte and byte_perplexity. If `words_of(labels)` returns the number of words that
    each token ends, it adds word_perplexity. Unlike the perplexity per token, these do not depend on the vocabulary.
    """

    def measure(trained: Trained, batch: Mapping) -> dict:
        logits = trained(*inputs(batch))
        labels, weights = targets(batch)
        loss = weighted_mean(losses.cross_entropy(logits, labels), weights)
        metrics = {
            "loss": loss,
            "accuracy": weighted_mean(losses.hits(logits, labels), weights),
            "perplexity": Perplexity(*loss),
        }
        if bytes_of:
            count = jnp.sum(bytes_of(labels) * weights)
            metrics |= {"bits_per_byte": BitsPerByte(loss.sum, count), "byte_perplexity": Perplexity(loss.sum, count)}
        if words_of:
            metrics["word_perplexity"] = Perplexity(loss.sum, jnp.sum(words_of(labels) * weights))
        return metrics

    return measure
