"""Train ViT-S/16 on ImageNet-1k from scratch with a plain recipe.

Beyer, Zhai & Kolesnikov, "Better plain ViT baselines for ImageNet-1k" (arXiv:2205.01580), after its released
configuration (big_vision, vit_s16_i1k): inception crop, flip, RandAugment(2, 10), mixup 0.2; mean pooling of the
patches followed by a tanh layer, fixed position embeddings; Adam with decoupled weight decay, gradient norm clipped at
1; batch size 1024, 90 epochs. As in the paper, 1 % of the training images is held out for validation, and the official
validation set is the test set.

    python -m research train experiments/vision/imagenet_vit.py

Expected: 76.5 % after 90 epochs (the released configuration), 80 % after 300 (the paper's abstract). Time: 6 to 7 hours
on TPU v3-8 (from the paper); not measured here. Prepare ImageNet for TFDS by hand, as array_record. The host decodes
and crops the images and is probably the bottleneck, not the accelerator.
"""

import functools
from typing import Literal

import jax.numpy as jnp
import optax

from research.augment.host import center_crop, flip, inception_crop
from research.augment.image import normalize
from research.augment.rand_augment import rand_augment
from research.core import Eval
from research.data import batches, eval_batches, mapped, tfds_source
from research.duration import percent
from research.experiment import Best, Claim, Experiment
from research.metrics.classification import measure_classification, predict_classes
from research.model import from_nnx
from research.models.vit import ViT
from research.objectives.classify import classify
from research.objectives.mix import mixup
from research.optim.decay import decay_mask
from research.optim.schedules import warmup_cosine
from research.wrappers.mixed_precision import mixed_precision
from research.wrappers.preprocess import preprocessed


def experiment(
    *,
    width: int = 384,
    depth: int = 12,
    size: int = 224,
    patch: int = 16,
    batch_size: int = 1024,
    epochs: int = 90,
    warmup: int = 10_000,
    learning_rate: float = 1e-3,
    weight_decay: float = 1e-4,
    dtype: Literal["float32", "bfloat16"] = "float32",
) -> Experiment:
    """The recipe of the paper, for a ViT with width / 64 attention heads.

    size: side length of the square images in pixels
    warmup: warmup steps until the peak learning rate
    weight_decay: fraction by which a step at the peak learning rate shrinks the kernels; not multiplied by that rate
    dtype: compute dtype of the network; bfloat16 is faster, but the paper's figure was not obtained with it
    """

    def augment(rng, record):
        image = flip(rng, inception_crop(rng, record["image"], size=size))
        return {"image": rand_augment(rng, image, layers=2, magnitude=10), "label": record["label"]}

    def prepare(record):
        image = center_crop(record["image"], size=size, resize=round(size * 256 / 224))
        return {"image": image, "label": record["label"]}

    source = batches(tfds_source("imagenet2012", "train[:99%]"), batch_size, augment=augment)
    valid, test = (mapped(tfds_source("imagenet2012", part), prepare) for part in ("train[99%:]", "validation"))
    shape = dict(size=size, patch=patch, width=width, depth=depth, heads=max(1, width // 64), representation=width)
    network = from_nnx(lambda rngs: ViT(**shape, positions="sincos2d", pool="gap", rngs=rngs))
    model = preprocessed(mixed_precision(network, jnp.dtype(dtype)), lambda image: normalize(image, mean=0.5, std=0.5))
    steps = source.steps(epochs)
    # Optax multiplies the decay by the learning rate; in the paper, only the schedule (0 to 1) multiplies it.
    decay = weight_decay / learning_rate
    adamw = functools.partial(optax.adamw, weight_decay=decay, mask=decay_mask(), mu_dtype=jnp.bfloat16)
    measure = measure_classification(num_classes=1000)
    return Experiment(
        init=model.init,
        apply=model.apply,
        loss=mixup(classify(model), alpha=0.2, num_classes=1000),
        learning_rate=warmup_cosine(learning_rate, steps=steps, warmup=min(warmup, steps // 2)),
        optimizer=lambda rate: optax.chain(optax.clip_by_global_norm(1.0), adamw(rate)),
        source=source,
        steps=steps,
        evals={
            "valid": Eval(eval_batches(valid, batch_size), measure, every=percent(5)),
            "test": Eval(eval_batches(test, batch_size), measure),
        },
        predict=predict_classes(),
        best=Best("valid/accuracy"),
        claims=(Claim("test/accuracy", at_least=0.765, reference="Beyer et al. 2022, vit_s16_i1k"),),
    )
