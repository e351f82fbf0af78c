"""Data sets of other libraries are read as they are, and two sets of one experiment number their classes alike."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pyarrow
import pytest
from PIL import Image

from research.checks import uniform
from research.core import Eval
from research.data import (
    arrays,
    batches,
    class_names,
    column,
    eval_batches,
    field_names,
    generated,
    image_folder,
    in_memory,
    jsonl,
    labelled,
    mapped,
    subset,
)  # fmt: skip
from research.errors import UserError
from research.experiment import Experiment, build
from research.loop import run
from research.metrics.classification import measure_classification
from research.model import from_nnx
from research.models.mlp import MLP
from research.objectives.classify import classify
from research.runs.checkpoint import Checkpoints
from research.runs.record import Record
from tests import toys

ROWS = {"x": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], "label": [0, 1, 0]}


class HuggingFace:
    """The protocol of `datasets.Dataset`: `take(n)` returns the first n rows, and `features` names the classes."""

    features = {"label": type("ClassLabel", (), {"names": ["no", "yes"]})()}

    def __len__(self):
        return 3

    def __getitem__(self, i):
        return {name: values[i] for name, values in ROWS.items()}

    def __getitems__(self, indices):
        return [self[i] for i in indices]

    def take(self, n):
        return [self[i] for i in range(n)]


def test_a_method_take_of_another_library_is_not_called():
    data = HuggingFace()
    first = batches(data, 2, shuffle=False)(0)(0)
    assert first["x"].tolist() == ROWS["x"][:2] and eval_batches(data, 2)(1)["label"].tolist() == [0, 0]
    assert batches(subset(data, [0, 2]), 2, shuffle=False)(0)(0)["x"].tolist() == [ROWS["x"][0], ROWS["x"][2]]
    assert in_memory(data).columns["label"].tolist() == ROWS["label"]
    assert class_names(data) == class_names(subset(data, [1])) == class_names(in_memory(data)) == ("no", "yes")


def test_a_table_is_read_by_its_columns():
    table = pyarrow.table({"age": [31.5, 64.0, 18.0], "city": ["Rome", "Oslo", "Rome"], "label": [1, 0, 1]})
    assert field_names(table) == ["age", "city", "label"]
    assert column(table, "label").tolist() == [1, 0, 1] and column(table, "city").tolist() == ["Rome", "Oslo", "Rome"]
    batch = batches(table, 3, shuffle=False)(0)(0)
    assert batch["age"].tolist() == [31.5, 64, 18] and batch["label"].tolist() == [1, 0, 1] and "city" not in batch
    assert eval_batches(subset(table, [2, 0]), 2)(0)["age"].tolist() == [18, 31.5]


def test_tuples_are_converted_by_the_function_that_the_error_shows():
    data = [(np.zeros(2), 3), (np.ones(2), 4)]
    with pytest.raises(UserError, match=r"record \d is a tuple; .* for example mapped\(data, lambda record:"):
        batches(data, 2)(0)(0)
    converted = mapped(data, lambda record: {"image": record[0], "label": record[1]})
    assert batches(converted, 2, shuffle=False)(0)(0)["label"].tolist() == [3, 4]
    converted[0]["image"][:] = 7
    assert data[0][0].tolist() == [0, 0], "a record is a copy"


def test_strings_are_numbered_in_one_order():
    train = labelled(arrays(x=np.arange(4), kind=["b", "c", "a", "b"]), "kind")
    assert class_names(train) == ("a", "b", "c") and column(train, "label").tolist() == [1, 2, 0, 1]
    assert field_names(train) == ["x", "label"]
    valid = labelled(arrays(x=np.arange(2), kind=["c", "b"]), "kind", classes=train.classes)
    assert column(valid, "label").tolist() == [2, 1] and valid.classes == train.classes
    with pytest.raises(UserError, match="unknown class of record 1 in the field 'kind' 'cc'. Did you mean 'c'"):
        labelled(arrays(x=np.arange(2), kind=["c", "cc"]), "kind", classes=train.classes)
    with pytest.raises(UserError, match="the field 'x' must have strings"):
        labelled(train, "x")
    with pytest.raises(UserError, match=r"field 'label' has strings, such as 'b'; .*labelled\(data, 'label'\)"):
        batches(arrays(x=np.arange(2), label=["b", "a"]), 2, shuffle=False)(0)(0)


def test_json_lines_number_given_classes(tmp_path):
    (tmp_path / "t").write_text('{"x": 1, "kind": "b"}\n{"x": 2, "kind": "a"}\n')
    assert jsonl(tmp_path / "t", label="kind").columns["label"].tolist() == [1, 0]
    data = jsonl(tmp_path / "t", label="kind", classes=("a", "z", "b"))
    assert data.columns["label"].tolist() == [2, 0] and data.classes == ("a", "z", "b")
    with pytest.raises(UserError, match="unknown class of record 1 in the label column 'kind' of .* 'a'"):
        jsonl(tmp_path / "t", label="kind", classes=("b",))


@pytest.fixture
def folders(tmp_path):
    for folder in ("train/blue", "train/green", "train/red", "valid/blue", "valid/red"):
        (tmp_path / folder).mkdir(parents=True)
        Image.new("RGB", (4, 4), folder.split("/")[1]).save(tmp_path / folder / "0.png")
    return tmp_path


def test_a_folder_without_one_class_has_the_numbers_of_the_training_set(folders):
    train = image_folder(folders / "train")
    assert column(image_folder(folders / "valid", classes=train.classes), "label").tolist() == [0, 2]
    with pytest.raises(UserError, match="unknown class of .*train' 'green'"):
        image_folder(folders / "train", classes=("blue", "red"))


def test_an_evaluation_that_numbers_other_classes_is_refused(folders):
    def experiment(valid):
        model = from_nnx(lambda rngs: MLP((4, 4, 3), hidden=(), num_classes=3, rngs=rngs))
        return Experiment(
            init=model.init, apply=model.apply, loss=classify(model), optimizer=optax.sgd(0.1), steps=1,
            source=batches(train, 4),
            evals={"valid": Eval(eval_batches(valid, 4), measure_classification(num_classes=3))},
        )  # fmt: skip

    train = image_folder(folders / "train")
    with pytest.raises(UserError, match="'valid' numbers the classes blue, red; the training data number blue, green"):
        build(experiment(image_folder(folders / "valid")), seed=0)
    build(experiment(image_folder(folders / "valid", classes=train.classes)), seed=0)


CHANGES = {  # of a batch in the middle of a run: (change, message)
    "fewer rows": (lambda b: {k: v[:4] for k, v in b.items()}, r"x was float32\[8,3\] and is float32\[4,3\]"),
    "another width": (lambda b: {**b, "x": b["x"][:, :2]}, r"x was float32\[8,3\] and is float32\[8,2\][.]"),
    "another type": (lambda b: {**b, "y": b["y"].astype(np.int32)}, r"y was float32\[8\] and is int32\[8\][.]"),
    "a field less": (lambda b: {"x": b["x"], "y": b["y"]}, r"label was int32\[8\] and is absent[.]"),
    "a field more": (lambda b: {**b, "z": b["y"]}, r"z was absent and is float32\[8\][.]"),
}


@pytest.mark.parametrize("rows", [slice(None), np.arange(8)], ids=["all rows", "the rows of a process"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_batch_unlike_the_first_is_refused(name, rows):
    change, message = CHANGES[name]
    make = batches(toys.DATA, 8)(0)
    source = uniform(lambda seed: lambda step, rows=slice(None): change(make(step)) if step == 5 else make(step, rows))
    source(0)(0)
    assert np.array_equal(source(1)(4, rows=rows)["x"], make(4)["x"])
    if name == "fewer rows" and not isinstance(rows, slice):
        source(0)(5, rows=rows)  # the number of rows of a process is compared with `rows` when they are placed
        return
    with pytest.raises(UserError, match=f"step 5 differs from the first batch of the source: .*{message}"):
        source(0)(5, rows=rows)


def test_batches_that_are_equal_on_the_device_are_accepted():
    arrays_of_x = (np.ones(3), np.ones(3, np.float32), jnp.ones(3))
    source = uniform(lambda seed: lambda step, rows=slice(None): {"x": arrays_of_x[step]})
    assert [source(0)(step)["x"].dtype for step in range(3)] == [np.float64, np.float32, np.float32]


@pytest.mark.parametrize("stride", [1, 5])
def test_a_run_ends_at_a_batch_unlike_the_first(tmp_path, stride):
    """An evaluation set may end with a smaller batch."""
    make = batches(toys.DATA, 8)(0)
    smaller = lambda step: {k: v[: 4 if step == 17 else 8] for k, v in make(step).items()}
    built = build(
        toys.experiment(source=generated(lambda seed: smaller, 8), stride=stride, log_every=5),
        devices=jax.devices()[:1],
    )
    with (
        Record(tmp_path / "metrics.jsonl") as record,
        Checkpoints(tmp_path / "checkpoints") as checkpoints,
        pytest.raises(UserError, match="the batch of step 17 differs"),
    ):
        run(built, checkpoints=checkpoints, record=record, tell=lambda event: None)
    assert built.step.on_leaves._cache_size() == 1
