"""Tell positive from negative sentences, from 5,000 examples or from all: movies in English, goods in Chinese.

The movie sentences are those of Pang & Lee 2005; the label is the sign of the mean of 20 ratings (Hutto & Gilbert
2014). The classifier is a convolutional network on words (Kim 2014) that starts with the vectors of GloVe. A fifth of
the sentences is for the test, the same in every run; sentences of one document are in one part.
`python -m research prepare rated_sentences` and `prepare chinese_reviews` get the data.

    python -m research train experiments/language/sentiment.py
    python -m research train experiments/language/sentiment.py --examples 5000
    python -m research train experiments/language/sentiment.py --corpus chinese --classifier svm

The knobs are the best of two settings with `--validate true`. Expected accuracy on the 2,120 test sentences of movies
(ours; that of the network from all sentences is the mean of 3 seeds, the others are of one):

                                   all        5,000 examples
    network                        79.5 %     78.3 %
    linear machine on TF-IDF       78.7 %     75.5 %
    naive Bayes on 1-2-grams       78.7 %

On 3,473 Chinese reviews the linear machine on 1-2 characters reaches 85.3 %. The 90 % from 5,000 reviews that handbooks
promise are not reached here, with single sentences of 22 words on average. The network with seed 0 takes 273 negative
sentences for positive and 171 positive ones for negative. `sentiment_domains.py` adapts to other domains.
Time: 35 seconds of CPU time.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from sklearn.naive_bayes import MultinomialNB
from sklearn.svm import LinearSVC

from experiments.language.topics import classify_rows, classify_terms, held_out
from research.data import class_names, column, in_memory, labelled, mapped, stratified, subset, tfds_source
from research.data.readers.arrays import of_columns
from research.data.sampling.splits import grouped
from research.data.text.bag import bag
from research.data.text.clean import Cleaning
from research.data.text.preparation import fit_text
from research.data.text.tokens import tokens
from research.data.text.vectors import glove_6b, table_of
from research.data.text.words import Words
from research.experiment import Claim, Experiment
from research.model import from_nnx
from research.models.text_cnn import TextCNN

NAMES = ("negative", "positive")


def experiment(
    *,
    corpus: Literal["movies", "products", "editorials", "tweets", "chinese"] = "movies",
    classifier: Literal["cnn", "mlp", "svm", "naive_bayes"] = "cnn",
    examples: int | None = None,
    dropout: float = 0.5,
    dropped: float = 0.1,
    learning_rate: float = 4e-3,
    batch_size: int = 64,
    epochs: int = 5,
    alpha: float = 1.0,
    c: float = 0.2,
    validate: bool = False,
) -> Experiment:
    """Return the complete experiment, from data to claims.

    examples: training sentences, by default all
    dropped: probability that a word of a sentence is left out in training
    alpha: smoothing of naive Bayes
    c: inverse regularisation of the support-vector machine
    validate: hold out a tenth of the training sentences, and evaluate on it instead of the test sentences
    """
    train, test = chinese() if corpus == "chinese" else rated(corpus)
    parts = held_out(train, lambda: test, validate)
    if examples is not None:
        chosen, _ = stratified(column(parts["train"], "label"), (examples, None), seed=0)
        parts["train"] = subset(parts["train"], chosen)
    training = dict(learning_rate=learning_rate, batch_size=batch_size, epochs=epochs)
    if classifier == "cnn":
        of_corpus = dict(vectors=corpus != "chinese", length=128 if corpus == "chinese" else 48)
        found = classify_words(parts, **of_corpus, dropout=dropout, dropped=dropped, **training)
    else:
        machine = {"svm": LinearSVC(C=c, random_state=0), "naive_bayes": MultinomialNB(alpha=alpha)}.get(classifier)
        weights = {"weights": "count", "norm": None} if classifier == "naive_bayes" else {"sublinear": True}
        encoding = bag(ngrams=(1, 2), words=Words("all_words"), least=2, entries=128, **weights)
        network = dict(hidden=(64,), dropout=dropout, dropped=dropped)
        found = classify_terms(parts, encoding, machine=machine, network=network, **training)
    claimed = (corpus, classifier, examples, validate) == ("movies", "cnn", None, False)
    claim = Claim("test/accuracy", at_least=0.75, reference="ours: 0.778 on the validation sentences, minus 0.028")
    return dataclasses.replace(found, claims=(claim,) if claimed else ())


def rated(domain: str):
    """Return the training and test sentences of a domain; the sentences of one document are in one part.

    The label is the sign of the mean rating.
    """
    rows = in_memory(tfds_source("rated_sentences", domain)).columns
    label = (rows["sentiment"] > 0).astype(np.int32)
    data = of_columns({"text": rows["text"], "label": label}, classes=NAMES)
    test, train = grouped(rows["document"], (0.2, None), labels=label, seed=0)
    return subset(data, train), subset(data, test)


def chinese():
    """Return the training and test reviews, with a space between the characters."""
    data = labelled(tfds_source("chinese_reviews", "train"), "label")
    data = mapped(data, lambda record: {**record, "text": " ".join(record["text"])})
    test, train = stratified(column(data, "label"), (0.2, None), seed=0)
    return subset(data, train), subset(data, test)


def classify_words(
    parts: Mapping[str, Any], *, vectors: bool, length: int, filters: int = 100, dropout: float, dropped: float,
    **training,
) -> Experiment:  # fmt: skip
    """Return the Experiment of a TextCNN on words in lower case.

    vectors: begin with the vectors of GloVe
    length: words of a text that are kept
    """
    encoding = tokens(length, kind="words", vocabulary=20_000, begin=False)
    prepare = fit_text(parts["train"], encoding, cleaning=Cleaning(lower=True))
    rows = {name: prepare(part) for name, part in parts.items()}
    sizes = dict(vocabulary=prepare.vocabulary, num_classes=len(class_names(parts["train"])), filters=filters)
    model = from_nnx(lambda rngs: TextCNN(dropout=dropout, dropped=dropped, **sizes, rngs=rngs))
    init_from = None
    if vectors:
        init_from = lambda params, stats: ({**params, "embed": {"embedding": glove_table(prepare)}}, stats)
    return classify_rows(rows, model, inputs="tokens", preparation=prepare, init_from=init_from, **training)


def glove_table(prepare):
    """Return the vectors of GloVe for the words of a tokenizer, to begin an embedding with."""
    words = [prepare.encoder.tokenizer.decode([number]) for number in range(prepare.vocabulary)]
    return table_of(glove_6b(), words)
