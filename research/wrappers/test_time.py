"""Test-time augmentation: average a model's outputs over augmented copies of each input."""

from __future__ import annotations

import jax.numpy as jnp

from research.axes import Array, Float, Key, Num
from research.core import Model, Tree


def mirror_averaged(model: Model, *, shift: int = 0) -> Model:
    """Average the outputs for an image and its mirror image, outside training only.

    With a `shift`, half of the weight goes to both images moved by that many pixels, to the lower right and to the
    upper left, with their edges repeated (Jordan 2024, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, section 3.5).
    """

    def apply(
        params: Tree,
        stats: Tree,
        image: Num[Array, "batch height width channels"],
        *,
        key: Key[Array, ""] | None = None,
        train: bool = False,
    ) -> tuple[Float[Array, "batch ..."], Tree]:
        if train:
            return model.apply(params, stats, image, key=key, train=True)
        _, height, width, _ = image.shape
        padded = jnp.pad(image, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
        offset_weights = {shift: 0.5, 0: 0.25, 2 * shift: 0.25} if shift else {0: 1.0}
        shifted = {offset: padded[:, offset : offset + height, offset : offset + width] for offset in offset_weights}
        outputs = (
            weight / 2 * model.apply(params, stats, view)[0]
            for offset, weight in offset_weights.items()
            for view in (shifted[offset], shifted[offset][:, :, ::-1])
        )
        return sum(outputs), {}

    return Model(model.init, apply)
