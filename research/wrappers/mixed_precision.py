"""Mixed precision: compute in 16 bits while weights stay in 32."""

from __future__ import annotations

import jax.numpy as jnp

from research.axes import Array, Key
from research.core import Model, Tree
from research.tree import cast


def mixed_precision(model: Model, dtype=jnp.bfloat16) -> Model:
    """Compute the Model in `dtype`; params and stats keep their types (Micikevicius et al. 2018, section 3.1).

    Params and floating-point inputs are cast on entry, so gradients arrive in the params' own type. Outputs are cast to
    f32, so every loss is computed in f32. Layers that reduce (norms, softmax) use f32 internally. Limit: with f32 the
    model is unchanged. Apply `preprocessed` outside this wrapper, because preparing inputs may need f32. bfloat16 needs
    no loss scale; float16 does: use `research.gradients.loss_scale`.
    """

    def apply(params: Tree, stats: Tree, *inputs, key: Key[Array, ""] | None = None, train: bool = False):
        outputs, changed = model.apply(cast(params, dtype), stats, *cast(inputs, dtype), key=key, train=train)
        return cast(outputs, jnp.float32), changed

    return Model(model.init, apply)
