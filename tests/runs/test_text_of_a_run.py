"""A run folder alone predicts from raw texts: with the vocabulary that it was trained with, and without the data."""

import json

import numpy as np
import pytest

from research.__main__ import main
from research.data.text.preparation import load_text
from research.errors import UserError
from research.runs.opened import open_run
from research.verbs import evaluate, predict

EXPERIMENT = '''"""Topics of a table of texts."""

import optax

from research.core import Eval
from research.data import batches, eval_batches, stratified, subset, table
from research.data.text.bag import bag
from research.data.text.preparation import fit_text
from research.duration import epochs
from research.experiment import Experiment
from research.metrics.classification import measure_classification, predict_classes
from research.model import from_nnx
from research.models.sparse import SparseClassifier
from research.objectives.classify import classify


def experiment(*, texts: str):
    data = table(texts, target="topic", schema={"text": "text"})
    train, test = (subset(data, rows) for rows in stratified(data.column("topic"), (40, 20), seed=0))
    prepare = fit_text(train, bag())
    inputs = ("ids", "values")
    model = from_nnx(lambda rngs: SparseClassifier(prepare.vocabulary, num_classes=2, rngs=rngs))
    return Experiment(
        init=model.init, apply=model.apply, loss=classify(model, inputs=inputs), optimizer=optax.adam(0.3),
        source=batches(prepare(train), 20), steps=epochs(20),
        evals={"test": Eval(eval_batches(prepare(test), 20), measure_classification(num_classes=2, inputs=inputs))},
        predict=predict_classes(inputs=inputs), preparation=prepare,
    )
'''
ROWS = "text,topic\n" + "".join(
    f"the {['price', 'wheat'][i % 2]} of number{i} {['rose', 'grew'][i // 2 % 2]},{['money', 'grain'][i % 2]}\n"
    for i in range(60)
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run, and the predictions of new texts while the data are there; then they are deleted."""
    folder = tmp_path_factory.mktemp("texts")
    (folder / "texts.csv").write_text(ROWS)
    (folder / "new.csv").write_text("text,key\nwheat grew,a\nthe price rose,b\n")
    (folder / "topics.py").write_text(EXPERIMENT)
    arguments = ["--texts", str(folder / "texts.csv"), "--run-dir", str(folder / "run"), "--no-report"]
    assert main(["train", str(folder / "topics.py"), *arguments]) == 0
    predict(folder / "run", str(folder / "new.csv"), out=folder / "before.jsonl")
    (folder / "texts.csv").unlink()
    return folder


def test_the_folder_alone_predicts_the_same(folder):
    predict(folder / "run", str(folder / "new.csv"), out=folder / "after.jsonl")
    assert (folder / "after.jsonl").read_text() == (folder / "before.jsonl").read_text()
    rows = [json.loads(line) for line in (folder / "after.jsonl").read_text().splitlines()]
    assert [(row["class"], row["key"]) for row in rows] == [("grain", "a"), ("money", "b")]
    opened = open_run(folder / "run")
    assert opened.absent and opened.experiment.preparation.vocabulary == load_text(folder / "run").vocabulary
    with pytest.raises(UserError, match="the data of the run are not here"):
        evaluate(folder / "run", on="test")


def test_texts_without_a_known_word_get_the_bias(folder):
    (folder / "odd.csv").write_text('text,key\n"",a\n日本,b\n')
    with pytest.warns(UserWarning, match="1 texts are empty"):
        predict(folder / "run", str(folder / "odd.csv"), out=folder / "odd.jsonl")
    rows = [json.loads(line)["probabilities"] for line in (folder / "odd.jsonl").read_text().splitlines()]
    assert np.isfinite(rows).all() and rows[0] == rows[1]
