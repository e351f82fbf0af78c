"""Fine-tune the BERT of bert.py to classify news by topic, or film reviews by sentiment.

Devlin et al. 2019, section 4: a linear layer on the first token of each text, and all weights are trained. The topics
are those of Reuters R8, on its published split. The sentiment is the sign of the mean rating of a sentence (Hutto &
Gilbert 2014); a tenth of the sentences is for the test, and the pretraining has not seen them. `train last` trains the
last block and the classifier only.

    python -m research train experiments/language/bert.py --run-dir runs/bert
    python -m research train experiments/language/fine_tune_bert.py --start runs/bert
    python -m research train experiments/language/fine_tune_bert.py --start runs/bert --task movies
    python -m research train experiments/language/fine_tune_bert.py
    python -m research train experiments/language/fine_tune_bert.py --classifier svm

Measured on the test texts (ours): the linear machine on TF-IDF, `--classifier svm`, reaches 97.6 % of the topics and
75.5 % of the film reviews. The BERT was not measured, and nothing is claimed. Time: 10 seconds of CPU time for the
linear machine.
"""

from typing import Literal

import numpy as np
import optax
from sklearn.svm import LinearSVC

from experiments.language.bert import fit_tokens, part_of, sizes, texts_of_parts
from research.core import Eval
from research.data import batches, column, eval_batches, labelled, stratified, subset, tfds_source
from research.data.readers.arrays import of_columns
from research.data.text.bag import bag
from research.data.text.preparation import fit_text
from research.duration import percent
from research.experiment import Experiment
from research.metrics.classification import measure_classification, predict_classes
from research.metrics.scores import class_scores
from research.model import from_nnx
from research.models.baseline import baseline
from research.models.bert import BERT
from research.objectives.classify import classify
from research.optim.decay import decay_mask
from research.optim.schedules import warmup_linear
from research.runs.pretrained import pretrained
from research.wrappers.frozen import frozen


def experiment(
    *,
    task: Literal["topics", "movies"] = "topics",
    start: str = "",
    classifier: Literal["bert", "svm"] = "bert",
    train: Literal["all", "last"] = "all",
    examples: int | None = None,
    width: int = 128,
    depth: int = 2,
    length: int = 64,
    dropout: float = 0.1,
    learning_rate: float = 1e-3,
    batch_size: int = 32,
    epochs: int = 4,
) -> Experiment:
    """Return the complete experiment, from data to claims.

    start: run folder of bert.py with the same `width` and `depth`; empty starts from random weights
    classifier: svm is a linear support-vector machine on TF-IDF of words and pairs of words
    train: weights that are trained
    examples: number of training texts; all of them by default
    length: tokens of a text that are read, at most 128
    """
    parts = task_parts(task)
    classes = len(parts["train"].classes)
    if examples:
        few = stratified(column(parts["train"], "label"), (examples, None), seed=0)[0]
        parts["train"] = subset(parts["train"], few)
    if classifier == "svm":
        inputs, prepare = ("ids", "values"), fit_text(parts["train"], bag(ngrams=(1, 2), least=2, sublinear=True))
        rows = [prepare(part) for part in parts.values()]
        model, rows = baseline(LinearSVC(random_state=0), rows, inputs=inputs, size=prepare.vocabulary)
        optimizer, epochs = optax.sgd, 1
    else:
        inputs, prepare = ("tokens", "segments", "positions"), fit_tokens(texts_of_parts()["train"], length=length)
        rows = [prepare(part) for part in parts.values()]
        network = dict(sizes(prepare, width=width, depth=depth), dropout=dropout, num_classes=classes)
        model = from_nnx(lambda rngs: BERT(**network, rngs=rngs))
        if train == "last":
            model = frozen(model, rf"^(embed|place|blocks/(?!{depth - 1}/))")
        adam = dict(b2=0.98, weight_decay=0.01, mask=decay_mask())
        optimizer = lambda rate: optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, **adam))
    source = batches(rows[0], batch_size)
    steps = source.steps(epochs)
    measure = measure_classification(num_classes=classes, inputs=inputs)
    evaluate = lambda part, **options: Eval(eval_batches(part, 256), measure, finish=class_scores(), **options)
    return Experiment(
        init=model.init,
        apply=model.apply,
        loss=classify(model, inputs=inputs),
        learning_rate=warmup_linear(learning_rate, steps=steps, warmup=steps // 10),
        optimizer=optimizer,
        source=source,
        steps=steps,
        init_from=pretrained(start) if start else None,
        evals={"valid": evaluate(rows[1], every=percent(25)), "test": evaluate(rows[2])},
        predict=predict_classes(inputs=inputs),
        preparation=prepare if classifier == "bert" else None,
        claims=(),
    )


def task_parts(task: str) -> dict:
    """Return the labelled texts of the parts train, valid and test."""
    if task == "topics":
        rows = labelled(tfds_source("reuters_r8", "train"), "label")
        split = stratified(column(rows, "label"), (0.9, None), seed=0)
        parts = {name: subset(rows, part) for name, part in zip(("train", "valid"), split, strict=True)}
        return {**parts, "test": labelled(tfds_source("reuters_r8", "test"), "label", classes=rows.classes)}
    data = tfds_source("rated_sentences", "movies")
    place = np.array([part_of(document) for document in column(data, "document").tolist()])
    label = (column(data, "sentiment") > 0).astype(np.int32)
    rows = of_columns({"text": column(data, "text"), "label": label}, classes=("negative", "positive"))
    return {name: subset(rows, np.flatnonzero(place == name)) for name in ("train", "valid", "test")}
