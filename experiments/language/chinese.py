"""Find the words, or the names, of Chinese newspaper text by tagging its characters.

A bidirectional LSTM reads each character together with the next one, and tags the begin, inside and end of words
(Xue 2003, "Chinese Word Segmentation as Character Tagging") or the begin and inside of persons, places and
organisations. The text is the People's Daily of January 1998. Every tenth paragraph is for the test and every twentieth
for validation. `python -m research prepare people_daily` gets the data.

    python -m research train experiments/language/chinese.py
    python -m research train experiments/language/chinese.py --task names
    python -m research train experiments/language/chinese.py --tagger matching

A sentence may be cut after 128 characters. 0.4 % of the test's characters are in paragraphs that the training text has
too. One setting was tried, and the claim is from the validation text, minus about a point.

Expected F1 on the test text (ours; the LSTM for words is the mean of 3 seeds, that for names is of one):

                                                     words    names
    LSTM                                             95.0 %   77.9 %
    maximum matching with the training words         93.4 %   79.1 %
    jieba, which has another standard of words       81.7 %   63.3 %

Time: 2 minutes of CPU time.
"""

from collections import Counter
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import optax

from research.core import Eval, Model
from research.data import batches, column, eval_batches, tfds_source
from research.data.readers.arrays import of_columns
from research.data.text.characters import character_ngrams, longest_words, name_tags, sentences, word_tags
from research.data.text.tagged import fit_words, tagged_rows
from research.data.text.words import jieba_tagged
from research.duration import percent
from research.experiment import Best, Claim, Experiment
from research.metrics.entities import tag_scheme
from research.metrics.tagging import measure_tags, tagged_texts
from research.model import from_nnx
from research.models.tagger import Tagger, predict_tags
from research.objectives.tag import tag
from research.optim.schedules import warmup_cosine

KINDS = {"nr": "person", "ns": "place", "nt": "organisation"}
SCHEMES = {"words": "lenient", "names": "BIO"}


def experiment(
    *,
    task: Literal["words", "names"] = "words",
    tagger: Literal["lstm", "matching", "jieba"] = "lstm",
    context: int = 2,
    least: int = 3,
    crf: bool = False,
    width: int = 48,
    hidden: int = 64,
    dropout: float = 0.2,
    learning_rate: float = 5e-3,
    batch_size: int = 32,
    epochs: int = 1,
) -> Experiment:
    """Return the complete experiment, from data to claims.

    tagger: matching takes the longest words of the training text, with their most frequent tags; jieba has its own
    context: characters that are embedded together: a character and those after it
    least: occurrences in the training text that such a group needs for an embedding of its own
    hidden: units of the LSTM in each direction
    """
    data = tfds_source("people_daily", "train")
    lines = zip(*([line.split() for line in column(data, name).tolist()] for name in ("text", "tags")), strict=True)
    parts = {"train": [], "valid": [], "test": []}
    for number, line in enumerate(lines):
        parts["test" if number % 10 == 9 else "valid" if number % 20 == 4 else "train"] += sentences(*line)
    grams = {name: [character_ngrams("".join(words), context) for words, _ in part] for name, part in parts.items()}
    tags = {name: [tagged(*line, task=task) for line in part] for name, part in parts.items()}
    names = {"tags": sorted({tag for line in tags["train"] for tag in line})}
    vocabulary = fit_words(grams["train"], least=least)
    form = {"vocabulary": vocabulary, "names": names, "length": 128, "letters": context}
    rows = {name: tagged_rows(grams[name], {"tags": tags[name]}, **form) for name in parts}
    records = {name: found.data for name, found in rows.items()}
    sizes = dict(vocabulary=len(vocabulary.words) + 2, alphabet=len(vocabulary.characters) + 2, tags=len(names["tags"]))
    network = dict(crf=crf, width=width, hidden=hidden, dropout=dropout, **sizes)
    model = from_nnx(lambda rngs: Tagger(**network, rngs=rngs))
    if tagger != "lstm":  # its tags replace the inputs
        split = jieba_tagged if tagger == "jieba" else matching(parts["train"])
        for name in ("valid", "test"):
            found = [tagged(*split("".join(words)), task=task) for words, _ in parts[name]]
            guesses = tagged_rows(grams[name], {"tags": found}, **form).data.column("tags")
            records[name] = of_columns({**records[name].columns, "words": np.maximum(guesses, 0)})
        records["train"], epochs = records["valid"], 1
        one_hot = lambda params, stats, words, *_, **__: (jax.nn.one_hot(words, len(names["tags"])), stats)
        model = Model(lambda key: ({"unused": jnp.zeros(())}, {}), one_hot)
    source = batches(records["train"], batch_size)
    steps = source.steps(epochs)
    measure = measure_tags(predict_tags, scheme=tag_scheme(names["tags"], scheme=SCHEMES[task]))
    shown = rows["test"]._replace(text=[[group[:1] for group in row] for row in rows["test"].text])
    finish = tagged_texts(shown, names=names["tags"])
    return Experiment(
        init=model.init,
        apply=model.apply,
        loss=tag(model),
        learning_rate=warmup_cosine(learning_rate, steps=steps, warmup=max(1, steps // 20)),
        optimizer=optax.adam,
        source=source,
        steps=steps,
        evals={
            "valid": Eval(eval_batches(records["valid"], 128), measure, every=percent(25)),
            "test": Eval(eval_batches(records["test"], 128), measure, finish=finish),
        },
        best=Best("valid/f1"),
        claims=(Claim("test/f1", at_least=0.945, reference="ours"),) if (task, tagger) == ("words", "lstm") else (),
    )


def tagged(words, kinds, *, task):
    """Return the tags of the characters of words: persons have a surname and a given name, thus two words."""
    if task == "words":
        return word_tags(words)
    return name_tags(words, [KINDS.get(kind[:2], "") for kind in kinds], joined=("person",))


def matching(lines):
    """Return text -> (words, kinds) by maximum matching with the words of lines."""
    counts = Counter(pair for line in lines for pair in zip(*line, strict=True))
    kinds = {word: kind for (word, kind), _ in reversed(counts.most_common())}
    split = longest_words(kinds)
    return lambda text: (words := split(text), [kinds.get(word, "") for word in words])
