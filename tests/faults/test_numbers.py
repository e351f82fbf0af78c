"""Numbers are the numbers of the file, or refused: on the way into memory, into a batch, and into JSON."""

import json

import numpy as np
import pytest

from research.data import arrays, batches, eval_batches, jsonl, prepare, table, tfds_source
from research.errors import UserError
from research.files import read_json, to_json, write_json


def read(tmp_path, cells):
    (tmp_path / "t.csv").write_text("x,y\n" + "".join(f"{cell},0\n" for cell in cells))
    return table(tmp_path / "t.csv").columns["x"]


@pytest.mark.parametrize("cells, dtype", [
    (["1", "-2"], "int64"),
    (["+1", "-2", ""], "float64"),
    (["16777217", "", "0"], "float64"),
    (["20240117", "", "20240119"], "float64"),
    (["0.1", "2.5"], "float64"),
    (["1e300", "0.5"], "float64"),
    (["9223372036854775807", "1"], "int64"),
    (["99999999999999999999", "1"], "object"),
    (["9007199254740993", ""], "object"),
    (["1_000", "2"], "object"),
    (["00185", "10115"], "object"),
    (["0x1F", "2"], "object"),
])  # fmt: skip
def test_cells_keep_their_values(tmp_path, cells, dtype):
    column = read(tmp_path, cells)
    assert column.dtype == dtype
    if dtype == "object":
        assert column.tolist() == cells
    else:
        exact = [float("nan") if not c else int(c) if c.lstrip("+-").isdigit() else float(c) for c in cells]
        np.testing.assert_array_equal(column, np.array(exact, column.dtype))
        assert all(int(v) == int(c) for v, c in zip(column, cells, strict=True) if c.lstrip("+-").isdigit())


def test_json_lines_keep_their_values(tmp_path):
    def read(*values):
        (tmp_path / "t.jsonl").write_text("".join(json.dumps({"x": value}) + "\n" for value in values))
        return jsonl(tmp_path / "t.jsonl").columns["x"]

    assert read(16777217, None).tolist()[0] == 16777217 and read(16777217, None).dtype == np.float64
    assert read(0.5, 1).dtype == np.float32 and read([1, 2], [3]).tolist()[1].tolist() == [3]
    with pytest.raises(UserError, match="field 'x' has integers beyond 64 bits; write them as strings"):
        read(9223372036854775808, 5)
    with pytest.raises(UserError, match="line 7: field 'x' is null; expected a string, as in line 1"):
        read(*"abcdef", None, "h")


def test_labels_fit_into_32_bits(tmp_path):
    (tmp_path / "t.jsonl").write_text('{"y": 4294967296}\n{"y": 4294967297}\n')
    with pytest.raises(UserError, match="label column 'y' of .* has 4294967297; expected integers of 32 bits"):
        jsonl(tmp_path / "t.jsonl", label="y")


def batch(values):
    return eval_batches(arrays(x=values), 2)(0)["x"]


@pytest.mark.parametrize("values, dtype", [
    (np.array([1, -5], ">i4"), "int32"),
    (np.array([0.1, 2.5], ">f8"), "float32"),
    (np.array([7, 9], np.int64), "int32"),
    (np.array([7, 2**32 - 1], np.uint64), "uint32"),
    (np.array([np.nan, np.inf]), "float32"),
    (np.array([3, 4], np.uint8), "uint8"),
])  # fmt: skip
def test_a_batch_has_numbers_that_a_device_holds(values, dtype):
    found = batch(values)
    assert found.dtype == dtype and found.dtype.isnative
    np.testing.assert_array_equal(found, values.astype(dtype))


@pytest.mark.parametrize("values, shown", [
    (np.array([0, 2**31]), "2147483648.* not a number of int32"),
    (np.array([0, 2**32], np.uint64), "4294967296.* not a number of uint32"),
    (np.array([0.5, 16777217.0]), "16777217.0.* not a number of float32"),
    (np.array([0.5, 1e300]), "1e\\+300.* not a number of float32"),
])  # fmt: skip
def test_a_number_that_would_change_is_refused(values, shown):
    with pytest.raises(UserError, match=f"the field 'x' has .*{shown}"):
        batches(arrays(x=values), 2)(0)(0)


def test_json_has_no_nan(tmp_path):
    value = {"a": [float("nan"), 1.5, (float("inf"),)], "b": {"c": -float("inf")}, "d": True}
    write_json(tmp_path / "x.json", value)
    text = (tmp_path / "x.json").read_text()
    assert "NaN" not in text and "Infinity" not in text
    assert read_json(tmp_path / "x.json") == {"a": [None, 1.5, [None]], "b": {"c": None}, "d": True}
    assert to_json([float("nan")]) == "[null]"


def test_long_cells_and_broken_characters(tmp_path):
    assert len(read(tmp_path, ["a" * 200_000])[0]) == 200_000
    (tmp_path / "half.jsonl").write_text('{"text": "\\ud83d"}\n')
    with pytest.raises(UserError, match="field 'text' is not valid text: .*surrogates not allowed. Replace or drop"):
        prepare(tmp_path / "half.jsonl", out=tmp_path / "out")


def test_splits_as_tfds_names_them():
    import tensorflow_datasets as tfds

    ten = tfds.core.ReadInstruction("train", to=10, unit="abs")
    assert len(tfds_source("digits", ten)) == 10
    assert len(tfds_source("digits", tfds.even_splits("train", 3)[0])) == 599
    for split, words in (
        ("train[90%:80%]", "has no records"),
        ("train[:0]", "digits"),
        (["train"], "expected one split"),
    ):
        with pytest.raises(UserError, match=words):
            tfds_source("digits", split)


def test_a_flipped_bit_in_a_json_file_is_found(tmp_path):
    path, value = tmp_path / "x.json", {"step": 40, "results": {"test": {"accuracy": 0.5, "loss": 1e-30}}, "1": [None]}
    write_json(path, value)
    content = path.read_bytes()
    for place in range(len(content)):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        try:
            found = read_json(path)
        except UserError as error:
            assert "x.json is damaged" in str(error)
        else:
            assert {**found, "crc32": 0} == {**value, "crc32": 0} or len(found) > len(value), "the checksum has no name"
    path.write_text(json.dumps(value))
    assert read_json(path) == value, "a file without a checksum, or one that was edited by hand"
    write_json(path, {**value, "crc32": "00000000"})
    assert read_json(path) == value
