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
    """exp of the mean loss in nats per token. States add up."""

    nats: Scalar
    tokens: Scalar

    def value(self) -> Scalar:
        """Return the perplexity, or 1 without tokens."""
        return jnp.exp(self.nats / (self.tokens + (self.tokens == 0)))


class BitsPerByte(NamedTuple):
    """The loss of the text in bits, divided by its bytes. States add up.

    It is comparable between vocabularies, and with compressors.
    """

    nats: Scalar
    bytes: Scalar

    def value(self) -> Scalar | float:
        """Return the bits per byte, or 0 without bytes."""
        return self.nats / (self.bytes + (self.bytes == 0)) / math.log(2)


def measure_language(*, bytes_of: Callable | None = None) -> Callable:
    """Return the measure of a language model's Eval: loss (nats per token), accuracy and perplexity.

    Batches hold "tokens", "segments" and "positions". If `bytes_of(labels)` returns the number of bytes of each token's
    text, the measure adds bits_per_byte.
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
            metrics["bits_per_byte"] = BitsPerByte(loss.sum, jnp.sum(bytes_of(labels) * weights))
        return metrics

    return measure
