"""The measures of an encoder-decoder: its loss given the correct previous tokens, and the targets that it decodes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from research.core import Rows, Trained
from research.decoding.encoder_decoder import translate
from research.fields import example_weights, field
from research.metrics.language import Perplexity
from research.objectives.language import pair_inputs, pair_metrics


def measure_pairs(trained: Trained, batch: Mapping) -> dict:
    """Measure loss (nats per token), accuracy and perplexity of targets, as `objectives.language.translation` does."""
    metrics = pair_metrics(trained(*pair_inputs(batch)), batch)
    return {**metrics, "perplexity": Perplexity(*metrics["loss"])}


def decode_pairs(
    *, begin: int, end: int, count: int, beams: int = 1, length_penalty: float = 1.0, references: str = "target"
) -> Callable:
    """Return the measure that decodes a target for each source: the rows source, reference and hypothesis.

    The options are those of `decoding.encoder_decoder.translate`. `references` is the field with the correct targets,
    int [batch, time], or [batch, references, time] if there are several. `metrics.texts.text_scores` makes the `finish`
    that computes metrics of these rows.
    """
    options = dict(begin=begin, end=end, count=count, beams=beams, length_penalty=length_penalty)

    def measure(trained: Trained, batch: Mapping) -> dict:
        source = field(batch, "source")
        rows = {"source": source, "reference": field(batch, references)}
        rows["hypothesis"] = translate(trained, source, **options).tokens
        return {"decoded": Rows(rows, example_weights(batch, len(source)))}

    return measure


def given_pairs(name: str) -> Callable:
    """Return the measure whose hypotheses are the field `name` of the batch, int [batch, time]: those of a baseline."""

    def measure(trained: Trained, batch: Mapping) -> dict:
        rows = {"source": field(batch, "source"), "reference": field(batch, "target"), "hypothesis": field(batch, name)}
        return {"decoded": Rows(rows, example_weights(batch, len(rows["source"])))}

    return measure
