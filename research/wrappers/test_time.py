"""Test-time augmentation: an evaluation averages the outputs for changed copies of an input."""

from __future__ import annotations

import jax.numpy as jnp

from research.axes import Array, Float, Key, Num
from research.core import Model, Tree


def mirrored(model: Model, *, shift: int = 0) -> Model:
    """Outside training the outputs are the mean of those for an image and for its mirror image.

    With a `shift`, half of the weight goes to both moved by that many pixels, to the lower right and to the upper left,
    their edges repeated (Jordan 2024, 94% on CIFAR-10 in 3.29 Seconds on a Single GPU, section 3.5).
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
        places = {shift: 0.5, 0: 0.25, 2 * shift: 0.25} if shift else {0: 1.0}
        moved = {place: padded[:, place : place + height, place : place + width] for place in places}
        outputs = (
            weight / 2 * model.apply(params, stats, view)[0]
            for place, weight in places.items()
            for view in (moved[place], moved[place][:, :, ::-1])
        )
        return sum(outputs), {}

    return Model(model.init, apply)
