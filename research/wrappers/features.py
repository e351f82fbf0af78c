"""Features of a frozen network, such as a language model, as the input of another model."""

from __future__ import annotations

from collections.abc import Callable

from research.axes import Array, Key
from research.core import Model, Tree
from research.model import init_together
from research.wrappers.frozen import frozen


def frozen_features(encoder: Model, model: Model, *, select: Callable = lambda outputs, *inputs: outputs) -> Model:
    """Train `model` on the outputs of a frozen `encoder`, which runs in evaluation mode.

    `select(outputs, *inputs)` returns the input of `model`, such as the vectors of the tokens that are not padding
    (GPT and LLaMA with `states=True`, the `states` of BERT). The params of the encoder are in
    `stats["frozen"]["encoder"]`: `pretrained(run, {r"encoder/(.*)": r"\\1"})` loads them, and the run saves them. Those
    of `model` are under "model". No gradient of the encoder is computed. The stats of both are united. Raises UserError
    if both have the same stats entry.
    """

    def apply(params: Tree, stats: Tree, *inputs, key: Key[Array, ""] | None = None, train: bool = False):
        outputs, _ = encoder.apply(params["encoder"], stats, *inputs, train=False)
        return model.apply(params["model"], stats, select(outputs, *inputs), key=key, train=train)

    return frozen(Model(init_together(encoder=encoder, model=model), apply), "^encoder/")
