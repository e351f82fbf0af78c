"""Tag words of the Brown corpus with parts of speech, by a bidirectional LSTM that reads words and spelling.

The network is that of Ma & Hovy 2016 ("End-to-end Sequence Labeling via Bi-directional LSTM-CNNs-CRF") without a CRF.
The tags are Brown's, without the suffixes for titles, foreign words and contractions. Every tenth document is for the
test and every twentieth for validation. Words that occur once in the training documents are unknown to the embedding,
and only their characters distinguish them. `python -m research prepare brown` gets the data.

    python -m research train experiments/language/parts_of_speech.py
    python -m research train experiments/language/parts_of_speech.py --spelling False
    python -m research train experiments/language/parts_of_speech.py --tagger frequent

Expected on the test documents (ours; 3.9 % of the words are not in the training documents):

                          accuracy   known words   unknown words
    LSTM, 3 seeds         96.5 %     97.4 %        76.2 %
    most frequent tag     90.2 %     93.0 %        26.6 %

Time: 4.5 minutes of CPU time.
"""

from typing import Literal

import jax.numpy as jnp
import numpy as np
import optax

from research.core import Eval, Model
from research.data import batches, column, eval_batches, tfds_source
from research.data.text.tagged import fit_words, tagged_rows
from research.duration import percent
from research.experiment import Best, Claim, Experiment
from research.metrics.tagging import measure_tags, tagged_texts
from research.model import from_nnx
from research.models.tagger import Tagger, predict_tags
from research.objectives.tag import tag
from research.optim.schedules import warmup_cosine

SUFFIX = "-+*$"


def experiment(
    *,
    tagger: Literal["lstm", "frequent"] = "lstm",
    spelling: bool = True,
    width: int = 64,
    hidden: int = 96,
    dropout: float = 0.3,
    learning_rate: float = 4e-3,
    batch_size: int = 32,
    epochs: int = 3,
) -> Experiment:
    """Return the complete experiment, from data to claims.

    tagger: frequent is the most frequent tag of each word in the training documents, or that of their rare words
    spelling: whether the network reads the characters of the words
    hidden: units of the LSTM in each direction
    """
    data = tfds_source("brown", "train")
    document, texts, tags = (column(data, name).tolist() for name in ("document", "text", "tags"))
    sentences, tags = [text.split() for text in texts], [[base(tag) for tag in line.split()] for line in tags]
    documents = {name: number for number, name in enumerate(sorted(set(document)))}
    place = np.array([documents[name] for name in document])
    parts = {"test": place % 10 == 9, "valid": place % 20 == 4}
    parts["train"] = ~(parts["test"] | parts["valid"])
    chosen = {name: np.flatnonzero(rows).tolist() for name, rows in parts.items()}
    names = {"tags": sorted({tag for line in tags for tag in line})}
    vocabulary = fit_words([sentences[i] for i in chosen["train"]], least=1 if tagger == "frequent" else 2)
    rows = {
        name: tagged_rows(
            [sentences[i] for i in part],
            {"tags": [tags[i] for i in part]},
            vocabulary=vocabulary,
            names=names,
            length=64,
        )
        for name, part in chosen.items()
    }
    count, sizes = len(names["tags"]), {"vocabulary": len(vocabulary.words) + 2}
    sizes["alphabet"] = (len(vocabulary.characters) + 2) * spelling
    network = dict(tags=count, width=width, hidden=hidden, dropout=dropout, **sizes)
    model = from_nnx(lambda rngs: Tagger(**network, rngs=rngs))
    if tagger == "frequent":
        model = most_frequent(rows["train"].data, sizes["vocabulary"], count)
    source = batches(rows["train"].data, batch_size)
    steps = source.steps(epochs)
    finish = tagged_texts(rows["test"], names=names["tags"])
    measure = measure_tags(predict_tags, known=lambda batch: batch["known"])
    return Experiment(
        init=model.init,
        apply=model.apply,
        loss=tag(model),
        learning_rate=warmup_cosine(learning_rate, steps=steps, warmup=max(1, steps // 20)),
        optimizer=optax.adam,
        source=source,
        steps=steps,
        evals={
            "valid": Eval(eval_batches(rows["valid"].data, 128), measure, every=percent(25)),
            "test": Eval(eval_batches(rows["test"].data, 128), measure, finish=finish),
        },
        best=Best("valid/accuracy"),
        claims=(
            Claim("test/accuracy", at_least=0.96, reference="ours: the most frequent tag reaches 0.902"),
            Claim("test/accuracy_unknown", at_least=0.74, reference="ours: the most frequent tag reaches 0.266"),
        )
        if tagger == "lstm" and spelling
        else (),
    )


def base(tag: str) -> str:
    """Return a tag without its suffixes: NN of NN-TL, and DO of DO*."""
    end = min((tag.find(mark) for mark in SUFFIX if tag.find(mark) > 0), default=len(tag))
    return tag[:end]


def most_frequent(data, vocabulary: int, tags: int) -> Model:
    """Return a Model of the counts of each word's tags; an unknown word has those of the words that occur once."""
    inside = data.column("tags") >= 0
    words, labels = data.column("words")[inside], data.column("tags")[inside]
    counts = np.zeros((vocabulary, tags), np.float32)
    np.add.at(counts, (words, labels), 1)
    counts[1] = counts[counts.sum(1) == 1].sum(0)
    table = jnp.log(jnp.array(counts) + 1e-3)
    return Model(
        lambda key: ({"unused": jnp.zeros(())}, {}), lambda params, stats, words, *_, **__: (table[words], stats)
    )
