import json

import numpy as np
import pytest
from PIL import Image

from research.data import Arrays, arrays, batches, image_folder, in_memory, jsonl, mapped, subset, table
from research.data.readers.images import read_image
from research.errors import UserError


def test_arrays():
    data = arrays(image=np.arange(6.0).reshape(3, 2), label=[1, 2, 3], text=["a", "bb", "c"])
    assert len(data) == 3 and data[1]["image"].tolist() == [2, 3] and data[1]["text"] == "bb"
    taken = data.take_columns(np.array([2, 0, 2]))
    assert taken["label"].tolist() == [3, 1, 3] and taken["text"].tolist() == ["c", "a", "c"]
    assert data.columns["text"].dtype == object
    taken["image"][:] = 0
    neighbours = data.take_columns(np.array([1, 2]))
    assert neighbours["image"].tolist() == [[2, 3], [4, 5]] and neighbours["label"].tolist() == [2, 3]
    with pytest.raises(ValueError, match="read-only"):  # not copied
        neighbours["image"][:] = 0
    assert data[2]["image"].tolist() == [4, 5]


def test_ragged_columns_stay_apart_until_they_are_made_alike():
    data = arrays(x=[[1, 2], [3], []])
    assert [record["x"].tolist() for record in (data[i] for i in range(3))] == [[1, 2], [3], []]
    padded = mapped(data, lambda record: {"x": np.resize(np.append(record["x"], 0), 2)})
    assert batches(padded, 3)(0)(0)["x"].shape == (3, 2)


def test_subset_of_a_subset_in_its_order():
    data = arrays(x=np.arange(10) * 10)
    part = subset(subset(data, [9, 7, 5, 3]), np.array([2, 0]))
    assert [int(part[i]["x"]) for i in range(2)] == [50, 90]
    assert part.take_columns(np.array([1]))["x"].tolist() == [90]
    rows = subset([{"x": i} for i in range(5)], [4, 2])
    assert not hasattr(rows, "take") and rows.__getitems__([1, 0]) == [{"x": 2}, {"x": 4}]
    assert batches(rows, 2, shuffle=False)(0)(0)["x"].tolist() == [4, 2]


def test_mapped_cannot_write_into_the_data():
    data = arrays(x=np.zeros((3, 2)))

    def add(record):
        record["x"] += 1
        return record

    assert batches(mapped(data, add), 3)(0)(0)["x"].tolist() == np.ones((3, 2)).tolist()
    assert mapped(data, add)[0]["x"].tolist() == [1, 1] and not data.columns["x"].any()


def test_in_memory_keeps_everything():
    rows = [{"x": np.full(2, i), "text": str(i)} for i in range(2500)]
    data = in_memory(rows)
    assert isinstance(data, Arrays) and len(data) == 2500
    assert data.columns["x"][:, 1].tolist() == list(range(2500)) and data[2400]["text"] == "2400"


def test_classes_pass_through(tmp_path):
    data = table(written(tmp_path / "a.csv", "x,kind\n1,b\n2,a\n"), target="kind")
    assert subset(data, [1]).classes == mapped(data, dict).classes == in_memory(data).classes == ("a", "b")


def written(path, text, **kwargs):
    path.write_text(text, **{"encoding": "utf-8", **kwargs})
    return path


def test_jsonl(tmp_path):
    rows = [
        {"id": 1, "x": [1, 2.5], "text": "a\nb", "tokens": [1, 2, 3], "ok": True, "maybe": 1, "kind": "b"},
        {"tokens": [4], "id": 2, "x": [3, 4], "text": "zoë", "ok": False, "maybe": None, "kind": "a"},
    ]
    data = jsonl(written(tmp_path / "a.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n"), label="kind")
    assert data.columns["id"].dtype == data.columns["ok"].dtype == data.columns["label"].dtype == np.int32
    assert data.columns["x"].dtype == np.float32 and data.columns["x"].tolist() == [[1, 2.5], [3, 4]]
    assert data[0]["text"] == "a\nb" and data.classes == ("a", "b") and data.columns["ok"].tolist() == [1, 0]
    assert [data[i]["tokens"].tolist() for i in range(2)] == [[1, 2, 3], [4]]
    assert data[1]["tokens"].dtype == np.int32 and np.isnan(data[1]["maybe"])
    empty = jsonl(written(tmp_path / "b.jsonl", '{"tokens": []}\n{"tokens": [5]}\n'))
    assert [empty[i]["tokens"].dtype for i in range(2)] == [np.int32] * 2


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ('{"a": 1}\n{"a": 1\n', "line 2 is not JSON"),
        ('{"a": 1}\n[1]\n', "line 2: a list"),
        ('{"a": 1}\n{"b": 1}\n', "line 2 has the fields"),
        ('{"a": 1}\n{"a": "x"}\n', "line 2: field 'a'"),
        ('{"a": "x"}\n{"a": 1}\n', "line 2: field 'a'"),
        ('{"a": {"b": 1}}\n', "line 1: field 'a'"),
        ('{"a": [[1], [2, 3]]}\n', "line 1: field 'a'"),
    ],
)
def test_jsonl_errors(tmp_path, text, words):
    with pytest.raises(UserError, match=words):
        jsonl(written(tmp_path / "a.jsonl", text))


def test_missing_and_wrong_files(tmp_path):
    written(tmp_path / "flowers.jsonl", '{"a": 1}\n')
    with pytest.raises(UserError, match="Did you mean 'flowers.jsonl'"):
        jsonl(tmp_path / "flower.jsonl")
    with pytest.raises(UserError, match="is not a file"):
        jsonl(tmp_path)
    (tmp_path / "latin").write_bytes('{"a": "zo\xeb"}\n'.encode("latin1"))
    with pytest.raises(UserError, match="not UTF-8"):
        jsonl(tmp_path / "latin")


def picture(path, height, width, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((height, width, 3), value, np.uint8)).save(path)


@pytest.fixture
def pets(tmp_path):
    picture(tmp_path / "pets" / "dog" / "b.png", 8, 12, 200)
    picture(tmp_path / "pets" / "dog" / "a.png", 8, 12, 100)
    picture(tmp_path / "pets" / "cat" / "deep" / "c.PNG", 20, 10, 50)
    written(tmp_path / "pets" / "cat" / "notes.txt", "not an image")
    return tmp_path / "pets"


def test_image_folder(pets):
    data = image_folder(pets)
    assert data.classes == ("cat", "dog") and len(data) == 3
    assert [data[i]["image"].shape for i in range(3)] == [(20, 10, 3), (8, 12, 3), (8, 12, 3)]
    assert [(int(data[i]["label"]), int(data[i]["image"][0, 0, 0])) for i in range(3)] == [(0, 50), (1, 100), (1, 200)]
    assert data[1]["path"].endswith("dog/a.png")
    batch = batches(image_folder(pets, size=6, channels=1), 3)(0)(0)
    assert (
        batch["image"].shape == (3, 6, 6, 1) and batch["image"].dtype == np.uint8 and batch["label"].dtype == np.int32
    )
    assert image_folder(pets, size=(4, 6))[0]["image"].shape == (4, 6, 3)
    with pytest.raises(UserError, match="'image' has the shape"):
        batches(data, 3)(0)(0)


def test_resizing_crops_the_centre(tmp_path):
    pixels = np.zeros((10, 30), np.uint8)
    pixels[:, 10:20] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert (read_image(tmp_path / "a.png", size=(10, 10), channels=1) == 255).all()


def test_kinds_of_images(tmp_path):
    deep = np.array([[0, 256 * 128], [65535, 257]], np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert read_image(tmp_path / "deep.png", channels=1)[..., 0].tolist() == [[0, 128], [255, 1]]
    Image.new("RGBA", (2, 2), (10, 20, 30, 0)).save(tmp_path / "clear.png")
    assert read_image(tmp_path / "clear.png")[0, 0].tolist() == [10, 20, 30]
    palette = Image.new("P", (2, 2), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    palette.save(tmp_path / "palette.png", transparency=b"\x00\x80")
    assert read_image(tmp_path / "palette.png")[0, 0].tolist() == [9, 8, 7]
    turned = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3) * 40)
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.save(tmp_path / "turned.png", exif=exif)
    assert read_image(tmp_path / "turned.png", channels=1)[0, 0, 0] == 200


def test_image_folder_errors(pets, tmp_path):
    with pytest.raises(UserError, match="Did you mean 'pets'"):
        image_folder(tmp_path / "pet")
    with pytest.raises(UserError, match="Did you mean 'pets'"):
        image_folder(tmp_path / "pet" / "train")
    with pytest.raises(UserError, match="no sub-folders"):
        image_folder(pets / "dog")
    with pytest.raises(UserError, match="channels"):
        image_folder(pets, channels=4)
    whole = (pets / "dog" / "a.png").read_bytes()
    for damaged in (b"", b"not a picture", whole[: len(whole) // 2]):
        (pets / "dog" / "b.png").write_bytes(damaged)
        with pytest.raises(UserError, match="b.png' cannot be read as an image"):
            batches(image_folder(pets, size=4), 3)(0)(0)
    (pets / "empty").mkdir()
    with pytest.raises(UserError, match="'.*empty' has no images"):
        image_folder(pets)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: arrays(), "without columns"),
        (lambda: arrays(a=np.zeros(2), b=np.zeros(3)), "different lengths: {'a': 2, 'b': 3}"),
        (lambda: arrays(a=3.0), "single value"),
        (lambda: arrays(a=[{"x": 1}]), "expected a number"),
        (lambda: subset(arrays(a=[1, 2]), [2]), "record 2 of a data set of 2"),
        (lambda: subset(arrays(a=[1, 2]), [-1]), "record -1"),
        (lambda: subset(arrays(a=[1, 2]), []), "at least 1"),
        (lambda: in_memory([]), "is empty"),
        (lambda: mapped([], dict), "is empty"),
        (lambda: in_memory([{"x": np.zeros(1 + i // 1024)} for i in range(1025)]), "around record 1024"),
    ],
)
def test_errors(make, words):
    with pytest.raises(UserError, match=words):
        make()
