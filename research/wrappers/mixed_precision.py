"""Computing in 16 bits while the weights stay in 32: a policy around the model."""

from __future__ import annotations

import jax.numpy as jnp

from research.axes import Array, Key
from research.core import Model, Tree
from research.tree import cast


def mixed(model: Model, dtype=jnp.bfloat16) -> Model:
    """The Model computed in `dtype`, with params and stats as they are (Micikevicius et al. 2018, section 3.1).

    Params and floating-point inputs are cast on the way in, thus the gradients arrive in the params' own type; outputs
    are cast to f32, thus each loss is computed there. Layers that reduce (norms, softmax) do that in f32 by
    themselves. With f32 it is the model unchanged. Put `preprocessed` around it, not inside: the preparation of inputs
    may need f32. bfloat16 needs no loss scale; float16 does, see `research.gradients.loss_scale`.
    """

    def apply(params: Tree, stats: Tree, *inputs, key: Key[Array, ""] | None = None, train: bool = False):
        outputs, changed = model.apply(cast(params, dtype), stats, *cast(inputs, dtype), key=key, train=train)
        return cast(outputs, jnp.float32), changed

    return Model(model.init, apply)
