"""Train ResNet-20, 32, 44 or 56 on CIFAR-10 with the recipe of the original paper.

He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition" (CVPR 2016, arXiv:1512.03385), section 4.2.
Batches of 128 on two GPUs, and therefore BatchNorm over 64 images at a time. SGD with momentum 0.9 and weight decay
1e-4. Learning rate 0.1, divided by 10 at 32,000 and 48,000 of 64,000 steps. Images are padded by 4, cropped and
flipped. Two differences from the paper: the mean is per channel, not per pixel, and weight decay applies only to
kernels. As in the paper, 5,000 training images are held out.

    python -m research train experiments/vision/cifar10_resnet.py --depth 20

Expected: the test accuracies of table 6: 91.25, 92.49, 92.83 and 93.03 %. Time: not measured (one accelerator).
"""

import numpy as np
import optax

from research.augment.image import crop_and_flip, normalize
from research.core import Eval
from research.data import batches, column, eval_batches, in_memory, stratified, subset, tfds_source
from research.duration import percent
from research.experiment import Best, Claim, Experiment
from research.metrics.classification import measure_classification, predict_classes
from research.model import from_nnx
from research.models.resnet import cifar_resnet
from research.objectives.classify import classify
from research.optim.decay import decay_mask
from research.optim.schedules import step_decay
from research.wrappers.preprocess import preprocessed

PAPER = {20: 0.9125, 32: 0.9249, 44: 0.9283, 56: 0.9303}
MEAN, STD = np.array([0.4914, 0.4822, 0.4465]), np.array([0.2470, 0.2435, 0.2616])


def experiment(
    *,
    depth: int = 20,
    width: int = 16,
    batch_size: int = 128,
    groups: int = 2,
    steps: int = 64_000,
    learning_rate: float = 0.1,
    weight_decay: float = 1e-4,
) -> Experiment:
    """The recipe of the paper; the learning rate drops at one half and at three quarters of the steps.

    depth: number of layers, 6n + 2; for 110 layers the paper first warms up at a learning rate of 0.01
    width: channels of the first stage
    groups: parts of the batch that BatchNorm normalizes separately, as the paper's GPUs do
    """
    images = in_memory(tfds_source("cifar10", "train"))
    held_out = len(images) // 10
    train, valid = (subset(images, part) for part in stratified(column(images, "label"), (None, held_out), seed=0))
    test = tfds_source("cifar10", "test")
    model = preprocessed(
        from_nnx(lambda rngs: cifar_resnet(depth, width=width, group_size=batch_size // groups, rngs=rngs)),
        lambda image: normalize(image, mean=MEAN, std=STD),
    )
    measure = measure_classification(num_classes=10)
    # Padding with the mean colour equals zero padding after normalization.
    augment = crop_and_flip(padding=4, fill=np.round(255 * MEAN))
    return Experiment(
        init=model.init,
        apply=model.apply,
        loss=classify(model, augment=augment),
        # Coupled weight decay: it passes through momentum and learning rate like the gradient of an L2 penalty.
        learning_rate=step_decay(learning_rate, at=(steps // 2, steps * 3 // 4)),
        optimizer=lambda rate: optax.chain(
            optax.add_decayed_weights(weight_decay, decay_mask()), optax.sgd(rate, momentum=0.9)
        ),
        source=batches(train, batch_size),
        steps=steps,
        evals={
            "valid": Eval(eval_batches(valid, 4 * batch_size), measure, every=percent(5)),
            "test": Eval(eval_batches(test, 4 * batch_size), measure),
        },
        predict=predict_classes(),
        best=Best("valid/accuracy"),
        claims=(Claim("test/accuracy", at_least=PAPER[depth], reference="He et al. 2016, table 6"),)
        if depth in PAPER
        else (),
    )
