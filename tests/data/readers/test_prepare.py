import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from research.data import batches, image_folder, indexed, prepare, write
from research.errors import UserError


def stream(n):
    for i in range(n):
        yield {
            "image": np.full((2, 3), i % 256, np.uint8),
            "ragged": np.arange(i % 4, dtype=np.int16),
            "label": i,
            "score": np.float32(i / 2),
            "text": f"zoë\n{i}",
            "raw": b"\n\x00\xff",
        }


def test_a_stream_becomes_an_indexed_set(tmp_path):
    summary = prepare(stream(300), out=tmp_path / "set")
    assert summary.examples == {"all": 300} and summary.path == tmp_path / "set" and "300 all" in str(summary)
    data = indexed(tmp_path / "set")
    assert len(data) == 300 and sorted(data.fields) == sorted(next(stream(1)))
    for i, record in enumerate(stream(300)):
        for found in (data[i], data.__getitems__(np.array([299 - i, i]))[1]):
            assert found.keys() == record.keys()
            for name, value in record.items():
                assert np.asarray(found[name]).dtype == np.asarray(value).dtype
                np.testing.assert_array_equal(found[name], value)
    with pytest.raises(IndexError):
        data[300]
    data[0]["image"][:] = 1  # records are the reader's own
    assert not data[0]["image"].any() and list(tmp_path.iterdir()) == [tmp_path / "set"]


def test_files_and_folders(tmp_path):
    (tmp_path / "a.csv").write_text("x,kind\n1,b\n2,a\n")
    assert str(prepare(tmp_path / "a.csv").path) == str(tmp_path / "a.csv.indexed")
    made = os.stat(tmp_path / "a.csv.indexed").st_mtime_ns
    assert prepare(str(tmp_path / "a.csv")).examples == {"all": 2}
    assert os.stat(tmp_path / "a.csv.indexed").st_mtime_ns == made, "what is ready is left as it is"
    (tmp_path / "a.csv").write_text("x,kind\n1,b\n2,a\n3,c\n")
    with pytest.raises(UserError, match="made of other data"):
        prepare(tmp_path / "a.csv")
    (tmp_path / "a.jsonl").write_text('{"x": [1, 2]}\n')
    prepare(tmp_path / "a.jsonl", out=tmp_path / "out")
    assert indexed(tmp_path / "out")[0]["x"].tolist() == [1, 2]
    for name in ("cat", "dog"):
        (tmp_path / "pets" / name).mkdir(parents=True)
        Image.new("RGB", (4, 5), name == "dog" and "white" or "black").save(tmp_path / "pets" / name / "1.png")
    prepare(tmp_path / "pets")
    data, files = indexed(tmp_path / "pets.indexed"), image_folder(tmp_path / "pets")
    assert data.classes == files.classes and prepare(tmp_path / "pets.indexed").examples == {"all": 2}
    batch = batches(data, 2, shuffle=False)(0)(0)
    np.testing.assert_array_equal(batch["image"], np.stack([files[i]["image"] for i in range(2)]))


def test_ours_by_name(data_dir):
    summary = prepare("digits", out=data_dir)
    assert summary.examples == {"train": 1797} and summary.fields == ("image", "label")


WRITER = """
import sys, time, itertools, numpy as np
from research.data import prepare
def stream():
    for i in range(int(sys.argv[2])):
        if i == 50: print("going", flush=True)
        if i > 50: time.sleep(float(sys.argv[3]))
        yield {"x": np.full(1000, i)}
prepare(stream(), out=sys.argv[1])
"""


def test_killed_while_writing(tmp_path):
    out = tmp_path / "set"
    killed = subprocess.Popen([sys.executable, "-c", WRITER, out, "100000", "0.01"], stdout=subprocess.PIPE)
    killed.stdout.readline()
    time.sleep(0.1)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    assert not out.exists() and len(list(tmp_path.iterdir())) == 1
    prepare(stream(20), out=out)
    assert len(indexed(out)) == 20


def test_two_at_once(tmp_path):
    command = [sys.executable, "-W", "error", "-c", WRITER, tmp_path / "set", "100", "0.005"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    # Whoever starts after the other has ended is told that the set exists.
    errors = [process.communicate()[1] for process in both]
    assert all(not error or "exists; read it with indexed" in error for error in errors), errors
    data = indexed(tmp_path / "set")
    assert [int(data[i]["x"][0]) for i in range(100)] == list(range(100)) and len(list(tmp_path.iterdir())) == 1


def test_damage_is_seen(tmp_path):
    write(stream(50), tmp_path / "set")
    records, index = tmp_path / "set" / "records.array_record", tmp_path / "set" / "index.json"
    whole, listing = records.read_bytes(), index.read_text()
    for damage in (lambda: records.write_bytes(whole[:1000]), records.unlink):
        damage()
        with pytest.raises(UserError, match="is damaged"):
            indexed(tmp_path / "set")
    records.write_bytes(whole)
    index.write_text(listing[:30])
    with pytest.raises(UserError, match="index.json.*is damaged"):
        indexed(tmp_path / "set")
    index.write_text(listing.replace('"format": 2', '"format": 9'))
    with pytest.raises(UserError, match="format 9"):
        indexed(tmp_path / "set")
    index.write_text(listing)
    assert len(indexed(tmp_path / "set")) == 50
    index.unlink()
    with pytest.raises(UserError, match="expected a data set written by prepare"):
        indexed(tmp_path / "set")


def test_a_set_of_format_1_is_read(tmp_path):
    """Its index has the bytes of its one file."""
    data = write(stream(5), tmp_path / "set")
    index = json.loads((tmp_path / "set" / "index.json").read_text())
    index |= {"format": 1, "bytes": index.pop("files")["records.array_record"][1]}
    (tmp_path / "set" / "index.json").write_text(json.dumps(index))
    again = indexed(tmp_path / "set")
    assert len(again) == 5 and again[4]["text"] == "zoë\n4" and again.content == data.content


def test_errors(tmp_path):
    write(stream(1), tmp_path / "flowers")
    cases = [
        (lambda: prepare(stream(1)), "needs a folder to write"),
        (lambda: prepare(stream(0), out=tmp_path / "none"), "stream is empty"),
        (lambda: prepare(stream(1), out=tmp_path / "flowers"), "exists"),
        (lambda: prepare(3), "cannot prepare a int"),
        (lambda: prepare([{"x": 1}, {"y": 1}], out=tmp_path / "none"), "record 1 has the fields"),
        (lambda: prepare([{"x": {"y": 1}}], out=tmp_path / "none"), "expected a number"),
        (lambda: prepare([1], out=tmp_path / "none"), "expected a dict"),
        (lambda: prepare(tmp_path / "missing.csv"), "there is no data"),
        (lambda: prepare("missing.csv"), "there is no data"),
        (lambda: prepare(tmp_path / "flowers" / "index.json"), "expected .csv, .tsv"),
        (lambda: prepare("digit", out=tmp_path), "Did you mean 'digits'"),
        (lambda: prepare("cifar", out=tmp_path), "Did you mean 'cifar10'"),
        (lambda: indexed(tmp_path / "flower"), "Did you mean 'flowers'"),
    ]
    for make, words in cases:
        with pytest.raises(UserError, match=words):
            make()
    assert list(tmp_path.iterdir()) == [tmp_path / "flowers"], "failures leave nothing behind"
