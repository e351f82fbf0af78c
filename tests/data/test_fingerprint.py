"""Fingerprints of data: they do not change by themselves, and every change of the data changes them."""

import random
import string
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from research.data import arrays, batches, eval_batches, image_folder, indexed, mapped, mixture, subset, write
from research.data.fingerprint import FIRST_BATCH, SAMPLED, data_changes, fingerprint, source_fingerprints
from research.data.sampling.paired import paired
from research.data.sampling.sequence import in_sequence
from research.errors import UserError

RNG = np.random.default_rng(0)
COLUMNS = {
    "image": RNG.integers(0, 255, (50, 3, 5), np.uint8),
    "x": RNG.normal(size=(50, 3)).astype(np.float32),
    "flag": RNG.integers(0, 2, 50).astype(bool),
    "id": RNG.integers(0, 2**60, 50),
    "name": ["".join(RNG.choice(list(string.printable), 3)) for _ in range(50)],
    "ragged": [RNG.integers(0, 9, 1 + i % 3) for i in range(50)],
}


def listed(columns=COLUMNS):
    return [{name: values[i] for name, values in columns.items()} for i in range(50)]


def change_of(before, after):
    return data_changes({"data": fingerprint(before)}, {"data": fingerprint(after)}).get("data", "")


@pytest.mark.parametrize("name", ["image", "x", "flag", "id"])
def test_every_flipped_bit_is_seen(name):
    base, seed = fingerprint(arrays(**{name: COLUMNS[name]})), random.Random(0)
    for _ in range(200):
        changed = bytearray(COLUMNS[name].tobytes())
        bit = 0 if name == "flag" else seed.randrange(8)
        changed[seed.randrange(len(changed))] ^= 1 << bit
        values = np.frombuffer(bytes(changed), COLUMNS[name].dtype).reshape(COLUMNS[name].shape)
        now = fingerprint(arrays(**{name: values}))
        assert now["fields"] != base["fields"] and now["unordered"] != base["unordered"]


@pytest.mark.parametrize("data", [arrays(**COLUMNS), listed()], ids=["columns", "records"])
def test_the_change_is_named(data):
    order = np.roll(np.arange(50), 1)
    fewer = data[:49] if isinstance(data, list) else subset(data, np.arange(49))
    assert change_of(data, data) == "" and change_of(data, fewer) == "has 49 records instead of 50"
    swapped = [data[i] for i in order]
    assert change_of([data[i] for i in range(50)], swapped) == "has its records in another order"
    edited = listed()
    edited[7] = {**edited[7], "name": edited[7]["name"] + "é", "ragged": edited[7]["ragged"][::-1] + 1}
    assert change_of(listed(), edited) == "has other values of 'name', 'ragged'"
    assert "has the fields flag" in change_of(data, [{"flag": row["flag"]} for row in listed()])


def test_records_that_are_exchanged_between_fields_or_rows_are_seen():
    x, y = np.arange(4.0), np.arange(4.0) + 10
    assert change_of(arrays(x=x, y=y), arrays(x=y, y=x)) == "has other values of 'x', 'y'"
    assert change_of(arrays(x=x), arrays(x=x.astype(np.float32))) == "has other values of 'x'"
    assert change_of(arrays(x=np.zeros((4, 6))), arrays(x=np.zeros((4, 2, 3)))) == "has other values of 'x'"


def test_a_fingerprint_is_the_same_in_every_process():
    code = (
        "from tests.data import test_fingerprint as t; "
        "print(t.fingerprint(t.arrays(**t.COLUMNS))['fields'] | {'l': t.fingerprint(t.listed())['unordered']})"
    )
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert eval(printed) == fingerprint(arrays(**COLUMNS))["fields"] | {"l": fingerprint(listed())["unordered"]}


def test_large_data_are_sampled():
    class Large:
        """Records of 4 KB, which count how many are read."""

        reads = 0

        def __len__(self):
            return 10_000

        def __getitem__(self, i):
            self.reads += 1
            return {"x": np.full(2**10, i, np.float32)}

    data = Large()
    found = fingerprint(data)
    assert (found["records"], found["read"], data.reads) == (10_000, SAMPLED, SAMPLED + 1)


def test_a_mapped_data_set_has_the_fingerprint_of_its_data():
    data, calls = arrays(x=np.arange(5.0)), []
    assert fingerprint(mapped(data, lambda record: calls.append(1) or record)) == fingerprint(data) and not calls


def test_a_subset_of_records_adds_its_indices():
    data = listed()
    changed = [*data[:49], {**data[49], "flag": not data[49]["flag"]}]
    first, second = np.arange(20), np.arange(5, 25)
    assert change_of(subset(data, first), subset(data, second)) == "has other values of 'index of the record'"
    assert change_of(subset(data, first), subset(data, first[::-1])) == "has its records in another order"
    assert change_of(subset(data, first), subset(changed, first)) == "has other values of 'flag'"
    in_columns = arrays(x=np.arange(50.0)), arrays(x=np.append(np.arange(49.0), -1))  # not in the subset
    assert change_of(*(subset(one, first) for one in in_columns)) == ""


def test_a_folder_of_images(tmp_path):
    for name in ("a/1.png", "a/2.png", "b/3.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(RNG.integers(0, 255, (4, 4, 3), np.uint8)).save(tmp_path / name)
    before = image_folder(tmp_path)
    was = {"data": fingerprint(before)}
    (tmp_path / "b/3.png").rename(tmp_path / "a/3.png")
    Image.new("RGB", (4, 4)).save(tmp_path / "b/4.png")
    (tmp_path / "a/1.png").unlink()
    now = {"data": fingerprint(image_folder(tmp_path))}
    assert data_changes(was, now) == {"data": "has other values of 'path', 'image'"}
    image = (tmp_path / "b/4.png").read_bytes()
    (tmp_path / "b/4.png").write_bytes(image[:-1] + b"x")  # the same name and size
    assert data_changes(now, {"data": fingerprint(image_folder(tmp_path))}) == {"data": "has other values of 'image'"}


def test_an_indexed_data_set_stores_the_hash_of_its_records(tmp_path):
    rows = [{"x": np.float32(i), "text": "é" * i} for i in range(20)]
    first, same = write(rows, tmp_path / "a"), write(iter(rows), tmp_path / "b")
    other = write([*rows[:19], {"x": np.float32(19), "text": "e"}], tmp_path / "c")
    assert fingerprint(first) == fingerprint(same) == fingerprint(indexed(tmp_path / "a"))
    assert change_of(first, other) == "has other values of 'content'"


def test_every_data_set_of_a_source_is_named():
    data, more = arrays(x=np.arange(6.0), label=np.arange(6)), arrays(x=np.ones(4), label=np.arange(4))

    def names(source, **evals):
        return list(source_fingerprints(source, evals, seed=0))

    assert names(batches(data, 2), test=eval_batches(more, 2)) == ["train", FIRST_BATCH, "test"]
    assert names(mixture({"a": data, "b": more}, 2)) == ["train/a", "train/b", FIRST_BATCH]
    assert names(paired(batches(data, 2), more, ratio=1, inputs="x")) == ["train", "train/unlabelled", FIRST_BATCH]
    parts = in_sequence([batches(data, 2), mixture({"a": more}, 2)], steps=[1, 1])
    assert names(parts) == ["train/0", "train/1/a", FIRST_BATCH]


def test_the_first_batch_depends_on_the_functions_and_the_seed():
    data = arrays(x=np.arange(6.0))

    def first(source, seed=0):
        return source_fingerprints(source, {}, seed=seed)[FIRST_BATCH]

    doubled = batches(mapped(data, lambda record: {"x": 2 * record["x"]}), 4)
    assert first(batches(data, 4)) == first(batches(data, 4))
    assert len({str(first(batches(data, 4))), str(first(batches(data, 4), seed=1)), str(first(doubled))}) == 3


def test_the_address_of_an_object_has_no_effect():
    assert fingerprint([{"x": 1.0, "other": object()}]) == fingerprint([{"x": 1.0, "other": object()}])


def test_records_must_have_equal_fields():
    with pytest.raises(UserError, match=r"record 1 has the fields \['y'\]; record 0 has \['x'\]"):
        fingerprint([{"x": 1}, {"y": 1}])
    with pytest.raises(UserError, match="record 0 is a tuple"):
        fingerprint([(1, 2)])
