"""Distillation: a small perceptron learns Fashion-MNIST from 2,000 labels and a convolutional teacher.

The teacher learns from the same 2,000 images. Then the student learns from its probabilities, softened by a
temperature (Hinton, Vinyals & Dean 2015, arXiv:1503.02531), on images that both see alike augmented (Beyer et al.
2022, arXiv:2106.05237). Without a teacher's run the student learns from the labels alone, all else being equal.

    python -m research train experiments/distil.py --run-dir runs/teacher
    python -m research train experiments/distil.py --role student --teacher runs/teacher
    python -m research train experiments/distil.py --role student

Expected: not measured over seeds yet, so nothing is claimed. Time: a few minutes on two cores.
"""

from typing import Literal

import optax

from research.augment.image import crop_and_flip, normalize
from research.core import Eval
from research.data import batches, fashion_mnist, stratified, subset, sweep
from research.duration import percent
from research.experiment import Experiment
from research.metrics.classification import measure_classification, predict_classes
from research.model import from_nnx
from research.models.fashion_cnn import FashionCNN, space_to_depth
from research.models.mlp import MLP
from research.models.preprocess import preprocessed
from research.objectives.classify import classify
from research.objectives.distil import distil
from research.objectives.teacher import taught
from research.optim.decay import decay_mask
from research.optim.schedules import warmup_cosine
from research.start import pretrained


def experiment(
    *,
    role: Literal["teacher", "student"] = "teacher",
    teacher: str = "",
    labels: int = 2_000,
    steps: int = 2_000,
    batch_size: int = 64,
    width: int = 64,
    hidden: tuple[int, ...] = (64,),
    temperature: float = 4.0,
    weight: float = 0.9,
    learning_rate: float = 3e-3,
) -> Experiment:
    """One screen from data to claims.

    role: which network is trained
    teacher: the run folder of a teacher, with the same width; without one the student learns alone
    weight: the share of the teacher in the student's loss; the labels have the rest
    """
    data = fashion_mnist("train")
    sizes = (labels, 5_000)
    train, valid = (subset(data, rows) for rows in stratified(data.columns["label"], sizes, seed=0))

    prepare = lambda image: normalize(image, mean=0.286, std=0.353)
    large = from_nnx(lambda rngs: FashionCNN(channels=4, width=width, rngs=rngs))
    large = preprocessed(large, lambda image: space_to_depth(prepare(image)))
    small = preprocessed(from_nnx(lambda rngs: MLP((28, 28, 1), hidden=hidden, rngs=rngs)), prepare)
    model = large if role == "teacher" else small
    augment = crop_and_flip(padding=2)
    loss, start = classify(model, augment=augment), None
    if role == "student" and teacher:
        model, view = taught(small, large)
        loss = distil(model, large, view=view, temperature=temperature, weight=weight, augment=augment)
        names = {r"stats/teacher/params/(.*)": r"\1", r"stats/teacher/stats/(.*)": r"stats/\1"}
        start = pretrained(teacher, names)
    schedule = warmup_cosine(learning_rate, steps=steps, warmup=steps // 20)
    measure = measure_classification(num_classes=10)
    return Experiment(
        init=model.init,
        apply=model.apply,
        loss=loss,
        optimizer=optax.adamw(schedule, weight_decay=1e-2, mask=decay_mask()),
        schedules={"learning_rate": schedule},
        source=batches(train, batch_size),
        start=start,
        steps=steps,
        evals={
            "valid": Eval(sweep(valid, 500), measure, every=percent(10)),
            "test": Eval(sweep(fashion_mnist("test"), 500), measure),
        },
        predict=predict_classes(),
    )
