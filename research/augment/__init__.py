"""Random changes of inputs that keep their labels.

On the device, inside the step, an augmentation is a pure function `(key, batch) -> batch`; a loss takes it as
`augment=`. On the host, for images whose sizes differ, it is `(rng, record) -> record`, for `batches(augment=)`.

    device   image (normalize, crop, flip), strong (affine, colour, cutout), view (two views of an image)
    host     host (inception crop, flip, centre crop), rand_augment

To add one, copy `image.py` (device) or `host.py` (host). Mixing of examples changes the labels too, thus it is a loss:
`research.objectives.mix`.
"""
