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
    """exp of the mean nats a token; the two sums add up."""

    nats: Scalar
    tokens: Scalar

    def value(self) -> Scalar:
        """1 if there were no tokens."""
        return jnp.exp(self.nats / (self.tokens + (self.tokens == 0)))


class BitsPerByte(NamedTuple):
    """All nats of the text in bits, over its bytes: comparable between vocabularies, and with compressors."""

    nats: Scalar
    bytes: Scalar

    def value(self) -> Scalar | float:
        """0 if there were no bytes."""
        return self.nats / (self.bytes + (self.bytes == 0)) / math.log(2)


def measure_language(*, bytes_of: Callable | None = None) -> Callable:
    """The measure of an Eval on {"tokens", "segments", "positions"}: loss (nats a token), accuracy, perplexity, and
    bits_per_byte if `bytes_of(labels)` gives the number of bytes of text of each token.
    """

    def measure(trained: Trained, batch: Mapping) -> dict:
        logits = trained(*inputs(batch))
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
