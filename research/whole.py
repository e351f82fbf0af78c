"""Losses that do not add over examples, and what refuses them.

The gradient of most losses is the weighted mean of the gradients of their examples, so a batch may be split over
microbatches and devices. A contrastive loss, a distance between distributions, a ranking is a function of the
batch as a whole: split, it is another loss. Its metric says so by its type, which no wrapper can forget.
"""

from research.core import Mean
from research.errors import UserError


class Whole(Mean):
    """The Mean of a loss that does not add over examples: `metrics["loss"]` of a contrastive loss, and the like."""


def whole(mean: Mean) -> Whole:
    """`mean`, marked as that of a loss of the batch as a whole."""
    return Whole(*mean)


def check_additive(metrics, *, by: str):
    """Raises UserError, while tracing, where `metrics["loss"]` is Whole; `by` is what would split the batch."""
    if isinstance(metrics["loss"], Whole):
        raise UserError(
            f"{by} splits the batch, and this loss does not add over examples (it is a Whole): the parts would be "
            "trained on another loss. Use a smaller batch, or a loss that adds over examples."
        )
