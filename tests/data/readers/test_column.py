"""One call reads a column of any data set."""

import numpy as np
import pytest
from PIL import Image

from research.data import arrays, column, image_folder, mapped, subset, table
from research.data.readers import images
from research.data.readers.arrays import Arrays
from research.errors import UserError

Y = np.array([3, 1, 4, 1, 5], np.int32)
DATA = arrays(x=np.arange(10.0).reshape(5, 2), y=Y, name=list("abcde"))


@pytest.fixture
def folder(tmp_path):
    for name, count in (("cat", 2), ("dog", 1)):
        (tmp_path / name).mkdir()
        for i in range(count):
            Image.new("RGB", (2, 2)).save(tmp_path / name / f"{i}.png")
    return image_folder(tmp_path)


def test_a_data_set_prints_its_size_and_fields(folder):
    assert repr(DATA) == "Arrays(5 records: x float64[2], y int32[], name object[])"
    named = Arrays({"label": np.array([0, 1])}, classes=("no", "yes"))
    assert repr(subset(named, [1])) == "Subset(1 of Arrays(2 records: label int64[]; classes no, yes))"


@pytest.mark.parametrize(
    "data",
    [
        DATA,
        [{"y": y, "name": name} for y, name in zip(Y, "abcde", strict=True)],
        mapped(DATA, lambda record: {"y": record["y"], "name": record["name"]}),
    ],
    ids=["arrays", "records", "mapped"],
)
def test_numbers_and_strings_of_any_data_set(data):
    np.testing.assert_array_equal(column(data, "y"), Y)
    part = subset(subset(data, [4, 0, 2]), [2, 0])
    np.testing.assert_array_equal(column(part, "y"), [4, 5])
    assert column(part, "name").tolist() == ["c", "e"]
    with pytest.raises(UserError, match="unknown field 'nome'. Did you mean 'name'"):
        column(part, "nome")


def test_labels_of_an_image_folder_without_reading_an_image(folder, monkeypatch):
    assert column(folder, "image").shape == (3, 2, 2, 3)
    monkeypatch.setattr(images, "read_image", None)
    assert column(folder, "label").tolist() == [0, 0, 1]
    assert [path.rpartition("/")[2] for path in column(subset(folder, [2, 1]), "path")] == ["0.png", "1.png"]


def test_labels_of_a_table(tmp_path):
    (tmp_path / "t.csv").write_text("width,kind\n1,b\n2,a\n")
    assert column(table(tmp_path / "t.csv", target="kind"), "label").tolist() == [1, 0]


def test_a_table_that_is_no_data_set_is_named():
    with pytest.raises(UserError, match="without len"):
        column(iter([{"y": 1}]), "y")
