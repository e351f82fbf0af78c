"""Classify handwritten digits from 1,000 labelled images: the first experiment to run.

The data are scikit-learn's 1,797 real images of 8 x 8 pixels (Alpaydin & Kaynak 1998), split by class into 1,000 for
training, 300 for validation and 497 for test. Textbooks promise 95 % from 1,000 labelled images.

    python -m research train experiments/digits.py
    python -m research train experiments/digits.py --network mlp --epochs 100

Expected: at least 97 % on the test images with either network (our claim). Time: under a minute on two cores.
"""

from typing import Literal

import optax

from research.augment.image import crop, normalize
from research.core import Eval
from research.data import batches, column, digits, eval_batches, stratified, subset
from research.duration import percent
from research.experiment import Best, Claim, Experiment
from research.metrics.classification import measure_classification, predict_classes
from research.model import from_nnx
from research.models.cnn import CNN
from research.models.mlp import MLP
from research.objectives.classify import classify
from research.optim.decay import decay_mask
from research.optim.schedules import warmup_cosine
from research.wrappers.preprocess import preprocessed


def experiment(
    *,
    network: Literal["cnn", "mlp"] = "cnn",
    learning_rate: float = 4e-3,
    weight_decay: float = 1e-2,
    batch_size: int = 64,
    epochs: int = 60,
    channels: tuple[int, ...] = (32, 64),
) -> Experiment:
    """Return the complete experiment, from data to claims.

    network: a small convolutional network or a multilayer perceptron
    learning_rate: peak; linear warmup over the first twentieth of the run, then cosine decay
    """
    data = digits()
    train, valid, test = (subset(data, rows) for rows in stratified(column(data, "label"), (1000, 300, None), seed=0))

    networks = {
        "cnn": lambda rngs: CNN((8, 8, 1), channels=channels, dropout=0.3, rngs=rngs),
        "mlp": lambda rngs: MLP((8, 8, 1), hidden=(256, 256), dropout=0.3, rngs=rngs),
    }
    # Pixel values range from 0 to 16, not 255.
    model = preprocessed(from_nnx(networks[network]), lambda image: normalize(image, mean=5 / 255, std=6 / 255))

    def shift(key, batch):
        return {**batch, "image": crop(key, batch["image"], padding=1)}

    source = batches(train, batch_size)
    steps = source.steps(epochs)
    measure = measure_classification(num_classes=10)
    return Experiment(
        init=model.init,
        apply=model.apply,
        loss=classify(model, smoothing=0.05, augment=shift),
        learning_rate=warmup_cosine(learning_rate, steps=steps, warmup=max(1, steps // 20)),
        optimizer=lambda rate: optax.adamw(rate, weight_decay=weight_decay, mask=decay_mask()),
        source=source,
        steps=steps,
        evals={
            "valid": Eval(eval_batches(valid, 512), measure, every=percent(10)),
            "test": Eval(eval_batches(test, 512), measure),
        },
        predict=predict_classes(),
        best=Best("valid/accuracy"),
        claims=(Claim("test/accuracy", at_least=0.97, reference="ours; the handbooks promise 0.95"),),
    )
