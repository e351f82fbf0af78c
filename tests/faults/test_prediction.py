"""Predictions for new files: grey images, folders without classes, tables; every row says which record it is of."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

from research.__main__ import main
from research.data import arrays, image_files, open_path
from research.errors import UserError
from research.runs.predictions import identifiers, write_predictions

EXPERIMENT = '''"""Grey images of 4 x 4 pixels."""

import jax.numpy as jnp
import optax

from research.core import Eval
from research.data import batches, eval_batches, image_folder
from research.experiment import Experiment
from research.metrics.classification import measure_classification, predict_classes
from research.model import Model
from research.objectives.classify import classify


def experiment(*, photos: str, steps: int = 20):
    data = image_folder(photos, channels=1)
    model = Model(
        lambda key: ({"w": jnp.zeros((16, 2)), "b": jnp.zeros(2)}, {}),
        lambda params, stats, x, key=None, train=False: (
            (x.reshape(len(x), 16) / 128 - 1) @ params["w"] + params["b"], {}),
    )
    return Experiment(
        init=model.init, apply=model.apply, loss=classify(model), optimizer=optax.adam(0.1), source=batches(data, 4),
        steps=steps, evals={"test": Eval(eval_batches(data, 4), measure_classification(num_classes=2))},
        predict=predict_classes(),
    )
'''


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run that tells dark images from light ones, and new images below `new` and `flat`."""
    folder = tmp_path_factory.mktemp("prediction")
    for name, value in (("dark", 20), ("light", 220)):
        for i in range(4):
            for root in ("photos", "new"):
                (folder / root / name).mkdir(parents=True, exist_ok=True)
                Image.new("L", (4, 4), value + i).save(folder / root / name / f"{i}.png")
    (folder / "flat").mkdir()
    Image.new("L", (6, 6), 30).save(folder / "flat" / "x.png")
    Image.new("RGB", (4, 4), (230, 230, 230)).save(folder / "flat" / "y.png")
    (folder / "grey.py").write_text(EXPERIMENT)
    arguments = ["--photos", str(folder / "photos"), "--run-dir", str(folder / "r"), "--no-report"]
    assert main(["train", str(folder / "grey.py"), *arguments]) == 0
    return folder


def test_grey_images_are_predicted_by_name(folder):
    assert main(["predict", str(folder / "r"), str(folder / "new")]) == 0
    lines = [json.loads(line) for line in (folder / "r/predictions/new.jsonl").read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(8))
    assert [line["path"] for line in lines] == [str(f) for f in sorted((folder / "new").rglob("*.png"))]
    assert [line["class"] for line in lines] == ["dark"] * 4 + ["light"] * 4
    assert [line["prediction"] for line in lines] == [0] * 4 + [1] * 4


def test_a_folder_without_classes_gives_a_table(folder):
    assert main(["predict", str(folder / "r"), str(folder / "flat"), "--out", str(folder / "p" / "flat.csv")]) == 0
    with open(folder / "p" / "flat.csv", newline="") as file:
        dark, light = csv.DictReader(file)
    assert list(dark) == [
        "index", "path", "prediction", "class", "confidence", "probabilities_dark", "probabilities_light",
    ]  # fmt: skip
    assert dark["path"].endswith("flat/x.png") and (dark["class"], light["class"]) == ("dark", "light")
    assert float(light["probabilities_light"]) == float(light["confidence"]) > 0.5


def test_mistakes_are_named(folder, capsys):
    for data, out, words in (
        (
            "tset",
            None,
            "is neither an evaluation set of the run nor an existing path. Evaluation sets: test. Did you",
        ),
        ("test", "p.parquet", "--out p.parquet; expected a file that ends in .jsonl or .csv"),
    ):
        assert main(["predict", str(folder / "r"), data, *(["--out", out] if out else [])]) == 2
        assert words in " ".join(capsys.readouterr().err.split())


def test_names_do_not_clash_and_arrays_become_columns(tmp_path):
    data = arrays(id=np.array([7, 9]), prediction=["a", "b"], text=["x,1", 'y"'], x=np.zeros(2))
    ids = identifiers(data)
    assert ids == {"id": [7, 9], "prediction": ["a", "b"], "text": ["x,1", 'y"']} and identifiers(None) == {}
    rows = {"prediction": np.array([1, 5]), "box": np.arange(4.0).reshape(2, 2)}
    write_predictions(tmp_path / "p.csv", rows, ids=ids, classes=("no", "yes"))
    with open(tmp_path / "p.csv", newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "index": "0", "id": "7", "record_prediction": "a", "text": "x,1", "prediction": "1", "class": "yes",
        "box_no": "0.0", "box_yes": "1.0",
    }  # fmt: skip
    assert second["class"] == "" and second["text"] == 'y"'
    write_predictions(tmp_path / "p.jsonl", rows, ids=ids)
    second = json.loads((tmp_path / "p.jsonl").read_text().splitlines()[1])
    assert second == {"index": 1, "id": 9, "record_prediction": "b", "text": 'y"', "prediction": 5, "box": [2, 3]}


def test_images_without_labels(folder, tmp_path):
    data = image_files(folder / "flat", size=4)
    assert set(data[0]) == {"image", "path"} and data[0]["image"].shape == (4, 4, 3) and data.classes is None
    with pytest.raises(UserError, match="unknown field 'label'"):
        data.column("label")
    with pytest.raises(UserError, match="has no images"):
        open_path(tmp_path)
    (tmp_path / "x.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(UserError, match="cannot be read as an .npz archive"):
        open_path(tmp_path / "x.npz")
