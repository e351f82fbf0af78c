"""Data augmentation: random changes of inputs that preserve their labels.

A device augmentation runs inside the step. It is a pure function `(key, batch) -> batch`; pass it to an objective as
`augment=`. A host augmentation handles images of different sizes. It is a function `(rng, record) -> record`; pass it
to `batches(augment=)`.

    device   image (normalize, crop, flip), strong (affine, colour, cutout), view (two views of an image)
    host     host (inception crop, flip, centre crop), rand_augment, text (synonyms, insertion, swaps, deletion)

To add one, copy `image.py` (device) or `host.py` (host). Mixup and cutmix also change labels, thus they are objectives:
`research.objectives.mix`.
"""
