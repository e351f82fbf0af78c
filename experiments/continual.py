"""Train on three tasks in sequence without forgetting the first: elastic weight consolidation.

Permuted digits after Kirkpatrick et al. 2017 (arXiv:1612.00796, section 2.1). Each task is scikit-learn's digits with
the pixels in a different fixed order. The network trains on one task after another and never sees an earlier task
again. At the end of a task, the Fisher information of the weights is computed on 200 of its images. From then on, a
penalty keeps the important weights near their values. `test` is the mean over all three tasks; `first` tracks the
validation images of the first task throughout the run.

    python -m research train experiments/continual.py
    python -m research train experiments/continual.py --strength 0

Expected: 93.1 % on the test images of all tasks, compared with 74.9 % for plain training (--strength 0). Accuracy on
the first task ends at 93 %, compared with 53 % for plain training. Ours, mean of seeds 0 to 2: 94.2, 93.0, 92.2 and
76.9, 71.2, 76.7. Time: 32 seconds of CPU time (AMD EPYC, AVX2).
"""

import numpy as np
import optax

from research.augment.image import normalize
from research.core import Eval
from research.data import arrays, batches, column, digits, eval_batches, stratified
from research.data.sampling.sequence import in_sequence
from research.duration import percent
from research.experiment import Claim, Experiment
from research.metrics.classification import measure_classification, predict_classes
from research.model import from_nnx
from research.models.mlp import MLP
from research.objectives.classify import classify
from research.objectives.elastic import elastic, fisher_diagonal
from research.wrappers.preprocess import preprocessed


def experiment(
    *,
    tasks: int = 3,
    strength: float = 1000.0,
    epochs: int = 10,
    learning_rate: float = 1e-3,
    batch_size: int = 50,
    width: int = 256,
) -> Experiment:
    """One network with one head, trained on one task after another.

    tasks: number of pixel orders; the first is the original order
    strength: weight of the penalty on changing weights that earlier tasks need; 0 is plain training
    epochs: passes over each task
    """
    data = digits()
    rows = stratified(column(data, "label"), (1000, 300, None), seed=0)
    orders = [np.random.default_rng(task).permutation(64) if task else np.arange(64) for task in range(tasks)]

    def permuted(part, order):
        images, labels = column(data, "image")[part], column(data, "label")[part]
        return arrays(image=images.reshape(len(part), 64)[:, order].reshape(images.shape), label=labels)

    def all_tasks(part):
        parts = [permuted(part, order).columns for order in orders]
        return arrays(**{name: np.concatenate([columns[name] for columns in parts]) for name in ("image", "label")})

    train = [permuted(rows[0], order) for order in orders]
    network = from_nnx(lambda rngs: MLP((8, 8, 1), hidden=(width, width), rngs=rngs))
    model = preprocessed(network, lambda image: normalize(image, mean=5 / 255, std=6 / 255))
    steps_per_task = batches(train[0], batch_size).steps(epochs)

    def fisher_of(task):
        return fisher_diagonal(model.apply, column(train[task], "image")[:200], microbatch=20)

    fishers = {steps_per_task * (task + 1): fisher_of(task) for task in range(tasks - 1)}
    measure = measure_classification(num_classes=10)
    return Experiment(
        init=model.init,
        apply=model.apply,
        techniques=(elastic(classify(model), fishers, strength=strength),),
        optimizer=optax.adam(learning_rate),
        source=in_sequence([batches(part, batch_size) for part in train], steps=[steps_per_task] * tasks),
        steps=steps_per_task * tasks,
        evals={
            "first": Eval(eval_batches(permuted(rows[1], orders[0]), 300), measure, every=percent(5)),
            "valid": Eval(eval_batches(all_tasks(rows[1]), 300), measure, every=percent(5)),
            "test": Eval(eval_batches(all_tasks(rows[2]), 497), measure),
        },
        predict=predict_classes(),
        claims=(Claim("test/accuracy", at_least=0.9, reference="ours, measured over 3 seeds"),) if strength else (),
    )
