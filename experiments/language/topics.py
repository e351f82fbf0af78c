"""Sort news and messages by topic, from the words alone: fastText, a network on TF-IDF, and a linear machine.

Three corpora on the splits of Cachopo that Yao, Mao & Luo 2019 ("Graph Convolutional Networks for Text Classification")
and later papers use: the 8 and the 52 largest topics of Reuters-21578, and 20 Newsgroups. fastText is the mean of
vectors of words and a linear layer (Joulin et al. 2016, arXiv:1607.01759). `python -m research prepare reuters_r8` gets
the data.

    python -m research train experiments/language/topics.py
    python -m research train experiments/language/topics.py --classifier svm
    python -m research train experiments/language/topics.py --corpus reuters_r52 --classifier svm --c 5

The knobs were chosen with `--validate true`: it trains on nine tenths of the training texts, evaluates on the rest, and
does not read the test texts. On R52, the squared hinge of each class, which the linear machine minimises, is better in
validation than cross-entropy (94.2 and 93.4 % with 64 units, no dropout, a rate of 0.01 or 0.02 and 12 epochs), and the
machine is best with c = 5 (95.0 %). On 20 Newsgroups nothing was tuned.

Expected accuracy on the test texts (ours, that of fastText is the mean of 3 seeds, the others of one):

                                 R8        R52       20 Newsgroups
    fastText                     97.2 %
    network on TF-IDF, hinge               94.0 %
    linear machine on TF-IDF     97.4 %    95.1 %    85.1 %
    TensorGCN (Liu et al. 2020)  98.0 %    95.1 %    87.7 %

The networks do not beat the linear machine. The machine with a tuned c equals the graph network on R52: one in three of
its 125 errors is in a topic of fewer than 20 training texts. On R8, most errors confuse interest rates with the money
market, and earnings with acquisitions. On 20 Newsgroups, they are between neighbouring groups: 103 messages of
talk.politics.misc are taken for talk.politics.guns, and groups on religion and on Windows for each other. The graph of
TensorGCN contains the test texts, without labels; here none is read in training. Time: 21 to 48 seconds on two shared
cores.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp
import optax
from sklearn.svm import LinearSVC

from research import losses
from research.core import Eval, Model
from research.data import batches, class_names, column, eval_batches, labelled, stratified, subset, tfds_source
from research.data.text.bag import TextStep, bag
from research.data.text.preparation import fit_text
from research.experiment import Claim, Experiment
from research.metrics.classification import measure_classification, predict_classes
from research.metrics.scores import class_scores
from research.model import from_nnx
from research.models.baseline import baseline
from research.models.sparse import SparseClassifier
from research.objectives.classify import classify
from research.optim.schedules import warmup_cosine

INPUTS = ("ids", "values")


def experiment(
    *,
    corpus: Literal["reuters_r8", "reuters_r52", "newsgroups"] = "reuters_r8",
    classifier: Literal["fasttext", "mlp", "svm"] = "fasttext",
    loss: Literal["softmax", "hinge"] = "softmax",
    longest: int = 1,
    least: int = 2,
    entries: int = 128,
    hidden: int = 16,
    dropout: float = 0.0,
    dropped: float = 0.0,
    learning_rate: float = 0.05,
    batch_size: int = 64,
    epochs: int = 10,
    c: float = 1.0,
    validate: bool = False,
) -> Experiment:
    """Return the complete experiment, from data to claims.

    loss: of the networks: cross-entropy, or the squared hinge of each class, which the linear machine minimises
    longest: words of the longest n-gram
    least: training texts that a term must be in
    entries: terms of a text that are kept, those with the largest values
    hidden: width of the vectors of words
    dropped: probability that a term of a text is left out in training
    c: inverse regularisation of the support-vector machine
    validate: hold out a tenth of the training texts, and evaluate on it instead of the test texts
    """
    train = labelled(tfds_source(corpus, "train"), "label")
    parts = held_out(train, lambda: labelled(tfds_source(corpus, "test"), "label", classes=train.classes), validate)
    fasttext = {"weights": "mean", "buckets": 100_000 if longest > 1 else None}
    weights = fasttext if classifier == "fasttext" else {"sublinear": True}
    training = dict(learning_rate=learning_rate, batch_size=batch_size, epochs=epochs)
    found = classify_terms(
        parts,
        bag(ngrams=(1, longest), least=least, entries=entries, **weights),
        machine=LinearSVC(C=c, random_state=0) if classifier == "svm" else None,
        network=dict(hidden=(hidden,), relu=classifier == "mlp", dropout=dropout, dropped=dropped),
        per_example=squared_hinge if loss == "hinge" else None,
        **training,
    )
    claims = (Claim("test/accuracy", at_least=0.967, reference="ours: a linear SVM on TF-IDF, minus 0.007"),)
    claims = claims if (corpus, classifier, validate) == ("reuters_r8", "fasttext", False) else ()
    return dataclasses.replace(found, claims=claims)


def squared_hinge(logits, labels):
    """Return the sum over the classes of max(0, 1 - y f) ** 2, with y 1 for the class of the text and -1 for others."""
    return jnp.sum(losses.hinge(logits, jax.nn.one_hot(labels, logits.shape[-1])) ** 2, -1)


def held_out(train, test: Callable[[], Any], validate: bool) -> dict[str, Any]:
    """Return the sets "train" and "test"; to validate, nine tenths of the training set and the rest as "valid"."""
    if not validate:
        return {"train": train, "test": test()}
    split = stratified(column(train, "label"), (0.9, None), seed=0)
    return {name: subset(train, rows) for name, rows in zip(("train", "valid"), split, strict=True)}


def classify_terms(
    parts: Mapping[str, Any], encoding: TextStep, *, network: Mapping[str, Any], machine=None, **training
) -> Experiment:
    """Return the Experiment of a SparseClassifier with the options `network`, or of a classifier of scikit-learn.

    parts: data sets of texts with labels: "train" and those to evaluate
    encoding: a `bag`, which is fitted on the training texts
    training: as in `classify_rows`
    """
    prepare = fit_text(parts["train"], encoding)
    rows, classes = {name: prepare(part) for name, part in parts.items()}, len(class_names(parts["train"]))
    if machine is not None:
        model, found = baseline(machine, rows.values(), inputs=INPUTS, size=prepare.vocabulary)
        return classify_rows(dict(zip(rows, found, strict=True)), model, inputs=INPUTS, **{**training, "epochs": 1})
    model = from_nnx(lambda rngs: SparseClassifier(prepare.vocabulary, num_classes=classes, **network, rngs=rngs))
    return classify_rows(rows, model, inputs=INPUTS, preparation=prepare, **training)


def classify_rows(
    parts: Mapping[str, Any], model: Model, *, inputs: str | tuple[str, ...], learning_rate: float, epochs: int,
    batch_size: int = 64, per_example: Callable | None = None, **options,
) -> Experiment:  # fmt: skip
    """Return the Experiment that trains `model` on the part "train", and evaluates it on the others.

    inputs: the fields that the model reads
    options: further arguments of the Experiment
    """
    classes, source = len(class_names(parts["train"])), batches(parts["train"], batch_size)
    steps = source.steps(epochs)
    measure, finish = measure_classification(num_classes=classes, inputs=inputs), class_scores()
    return Experiment(
        init=model.init,
        apply=model.apply,
        loss=classify(model, inputs=inputs, per_example=per_example),
        learning_rate=warmup_cosine(learning_rate, steps=steps, warmup=max(1, steps // 20)),
        optimizer=optax.adam,
        source=source,
        steps=steps,
        evals={name: Eval(eval_batches(parts[name], 512), measure, finish=finish) for name in parts if name != "train"},
        predict=predict_classes(inputs=inputs),
        **options,
    )
