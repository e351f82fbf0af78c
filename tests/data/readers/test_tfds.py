import dataclasses
import gzip
import hashlib
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import sysconfig
import time
import types

import numpy as np
import pytest
import tensorflow_datasets as tfds
from sklearn.datasets import load_digits

from research.data import (
    arrays,
    batches,
    digits,
    eval_batches,
    fashion_mnist,
    in_memory,
    pack,
    stdlib_text,
    tfds_source,
)
from research.data.readers import decoded_cache
from research.data.readers.idx import read_idx
from research.data.readers.tfds import prepared, quiet
from research.errors import UserError

DEBIAN = pathlib.Path("/usr/share/datasets/fashion-mnist")


def test_digits_are_scikit_learns(data_dir, capfd):
    data, theirs = digits(data_dir=data_dir), load_digits()
    assert data.columns["image"].shape == (1797, 8, 8, 1) and data.columns["image"].dtype == np.uint8
    np.testing.assert_array_equal(data.columns["image"][..., 0], theirs.images)
    np.testing.assert_array_equal(data.columns["label"], theirs.target)
    assert data.classes == tuple("0123456789")
    assert capfd.readouterr() == ("", ""), "preparing is silent"


def test_the_environment_names_the_data_folder(tmp_path, monkeypatch, data_dir):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert len(digits()) == 1797 and (tmp_path / "digits" / "1.0.0").is_dir()


def test_parts_of_a_split(data_dir):
    whole, part = (tfds_source("digits", split, data_dir=data_dir) for split in ("all", "train[10:20]"))
    assert len(part) == 10
    for i in range(10):
        np.testing.assert_array_equal(part[i]["image"], whole[i + 10]["image"])
    with pytest.raises(IndexError):
        part[10]


def test_what_a_set_decodes_to_is_kept_until_its_files_change(tmp_path, data_dir, monkeypatch):
    folder = shutil.copytree(pathlib.Path(data_dir, "digits"), tmp_path / "digits").parent
    first = digits(data_dir=folder).columns
    (file,) = folder.rglob(".columns-*")

    def refused(*args):
        raise AssertionError("decoded again")

    with monkeypatch.context() as patched:
        patched.setattr("research.data.readers.records.columns", refused)
        again = digits(data_dir=folder)
        assert again.columns.keys() == first.keys() and again.classes == tuple("0123456789")
        for name, column in first.items():
            np.testing.assert_array_equal(again.columns[name], column)
            assert again.columns[name].dtype == column.dtype
        with pytest.raises(AssertionError, match="decoded again"):  # another part is another file
            in_memory(tfds_source("digits", "train[:10]", data_dir=folder))

    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:5000] + bytes([whole[5000] ^ 1]) + whole[5001:]):
        file.write_bytes(damaged)
        np.testing.assert_array_equal(digits(data_dir=folder).columns["image"], first["image"])
        assert file.read_bytes() == whole  # mended

    record = next(folder.rglob("*array_record*"))
    os.utime(record, (1, 1))  # as when it was prepared anew
    monkeypatch.setattr("research.data.readers.records.columns", refused)
    with pytest.raises(AssertionError, match="decoded again"):
        digits(data_dir=folder)


def test_records_that_are_in_no_folder_here_are_read_and_not_kept(data_dir):
    source = tfds_source("digits", "train[:10]", data_dir=data_dir)
    info = types.SimpleNamespace(data_dir="gs://bucket/digits", features=source.info.features)
    elsewhere = dataclasses.replace(source, info=info)
    assert elsewhere.kept_file() is None and len(in_memory(elsewhere)) == 10


def test_nothing_is_kept_where_it_cannot_be(tmp_path, monkeypatch):
    path = tmp_path / "absent" / ".columns-1.npz"
    decoded_cache.write(path, {"x": np.zeros(3)})  # no such folder
    assert decoded_cache.read(path) is None
    path.parent.mkdir()
    decoded_cache.write(path, {"ragged": np.array([np.zeros(1), np.zeros(2)], object)})
    assert not list(path.parent.iterdir())

    def full(*args, **columns):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    decoded_cache.write(path, {"x": np.zeros(3)})
    assert not list(path.parent.iterdir())


def test_strings_are_kept_too(tmp_path):
    texts = np.array(["zoë", None, "", "b"], object)
    decoded_cache.write(tmp_path / "kept", {"text": texts, "x": np.arange(4)})
    found = decoded_cache.read(tmp_path / "kept")
    assert (
        list(found) == ["text", "x"]
        and found["text"].tolist() == texts.tolist()
        and found["x"].tolist() == [0, 1, 2, 3]
    )


def idx_bytes(array):
    return bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture
def clothes(tmp_path):
    """Four small IDX files, two of them packed."""
    rng, folder, made = np.random.default_rng(0), tmp_path / "clothes", {}
    folder.mkdir()
    for prefix, count in (("train", 30), ("t10k", 12)):
        images, labels = rng.integers(0, 256, (count, 28, 28), np.uint8), rng.integers(0, 10, count, np.uint8)
        (folder / f"{prefix}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx_bytes(images)))
        (folder / f"{prefix}-labels-idx1-ubyte").write_bytes(idx_bytes(labels))
        made[prefix] = images, labels
    return folder, made


def test_fashion_mnist_from_a_folder(clothes, tmp_path, monkeypatch):
    folder, made = clothes
    for split, prefix in (("train", "train"), ("test", "t10k")):
        data = fashion_mnist(split, folder=folder, data_dir=tmp_path / "tfds")
        np.testing.assert_array_equal(data.columns["image"][..., 0], made[prefix][0])
        np.testing.assert_array_equal(data.columns["label"], made[prefix][1])
        assert data.classes[0] == "t-shirt" and data.columns["image"].shape[1:] == (28, 28, 1)
    # Other files in the same folder are another data set; the environment names it as well as the argument.
    other = made["t10k"][1][::-1].copy()
    (folder / "t10k-labels-idx1-ubyte").write_bytes(idx_bytes(other))
    monkeypatch.setenv("FASHION_MNIST_DIR", str(folder))
    np.testing.assert_array_equal(fashion_mnist("test", data_dir=tmp_path / "tfds").columns["label"], other)


def test_damaged_idx_files(clothes, tmp_path):
    folder, made = clothes
    labels, images = folder / "train-labels-idx1-ubyte", folder / "train-images-idx3-ubyte.gz"
    whole, packed = labels.read_bytes(), images.read_bytes()
    cases = [
        (labels, whole[:-1], "truncated or damaged"),
        (labels, whole + b"1", "truncated or damaged"),
        (labels, whole[:6], "truncated or damaged"),
        (labels, b"", "starts with nothing"),
        (labels, idx_bytes(made["train"][0]), "starts with 00000803"),
        (labels, idx_bytes(made["train"][1][:5].copy()), "are not Fashion-MNIST"),
        (labels, idx_bytes(np.full(30, 10, np.uint8)), "up to 10"),
        (images, packed[:500], "truncated or damaged"),
        (images, packed[:500] + b"\x00\x01" + packed[502:], "truncated or damaged"),
        (images, packed[:10] + b"\xff" * 100, "truncated or damaged"),
        (images, gzip.compress(idx_bytes(np.zeros((30, 8, 8), np.uint8))), "are not Fashion-MNIST"),
    ]
    for file, content, words in cases:
        file.write_bytes(content)
        with pytest.raises(UserError, match=words):
            fashion_mnist("train", folder=folder, data_dir=tmp_path / "tfds")
        labels.write_bytes(whole), images.write_bytes(packed)
    assert not list((tmp_path / "tfds").rglob("*.array_record*")), "failures leave nothing behind"
    assert len(fashion_mnist("train", folder=folder, data_dir=tmp_path / "tfds")) == 30


def test_missing_fashion_mnist(tmp_path, monkeypatch):
    from research.data.builders import fashion_mnist as module

    monkeypatch.setattr(module, "DEBIAN", str(tmp_path / "debian"))
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    with pytest.raises(UserError) as caught:
        fashion_mnist("train", data_dir=tmp_path / "tfds")
    for words in ("debian", "tfds/downloads", "apt-get install dataset-fashion-mnist", "FASHION_MNIST_DIR"):
        assert words in str(caught.value)
    with pytest.raises(UserError, match="elsewhere"):
        fashion_mnist("train", folder=tmp_path / "elsewhere", data_dir=tmp_path / "tfds")


def test_downloads_of_tfds_are_found_but_must_be_the_published_files(clothes, tmp_path, monkeypatch):
    from research.data.builders import fashion_mnist as module

    monkeypatch.setattr(module, "DEBIAN", str(tmp_path / "debian"))
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    downloads = tmp_path / "tfds" / "downloads" / "fashion_mnist"
    downloads.mkdir(parents=True)
    for file in clothes[0].iterdir():
        name = file.name.removesuffix(".gz")
        (downloads / f"fashion-mnist_{name}oE8XE0rANWCk.gz").write_bytes(file.read_bytes())
        (downloads / f"fashion-mnist_{name}oE8XE0rANWCk.gz.INFO").write_text("{}")
        (downloads / f"cvdf-datasets_mnist_{name}oE8XE0rANWCk.gz").write_text("another data set's")
    with pytest.raises(UserError, match="fashion-mnist_train-images.*is not the published file"):
        fashion_mnist("train", data_dir=tmp_path / "tfds")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason=f"no {DEBIAN}: apt-get install dataset-fashion-mnist")
def test_the_real_fashion_mnist(data_dir, monkeypatch):
    from research.data.builders import fashion_mnist as module

    for name, digest in {**module.FILES["train"], **module.FILES["test"]}.items():
        assert hashlib.sha256(gzip.decompress((DEBIAN / f"{name}.gz").read_bytes())).hexdigest() == digest
    monkeypatch.delenv("FASHION_MNIST_DIR", raising=False)
    monkeypatch.delitem(module.FILES, "train")  # 60,000 records take too long to write for a test
    data = fashion_mnist("test", data_dir=data_dir)
    assert data.columns["image"].shape == (10_000, 28, 28, 1)
    assert np.bincount(data.columns["label"]).tolist() == [1000] * 10
    np.testing.assert_array_equal(data.columns["image"][..., 0], read_idx(DEBIAN / "t10k-images-idx3-ubyte.gz", ndim=3))
    np.testing.assert_array_equal(data.columns["label"], read_idx(DEBIAN / "t10k-labels-idx1-ubyte.gz", ndim=1))


def test_stdlib_text(data_dir):
    parts = {split: stdlib_text(split, data_dir=data_dir) for split in ("train", "validation", "test")}
    records = [part[i] for part in parts.values() for i in range(len(part))]
    files = {record["path"]: record["text"] for record in records}
    assert len(files) == sum(map(len, parts.values())) > 400, "no file is in two splits"
    assert 0.85 < len(parts["train"]) / len(files) < 0.95
    root = pathlib.Path(sysconfig.get_paths()["stdlib"])
    for name in ("json/decoder.py", "abc.py"):
        assert files[name].tobytes() == (root / name).read_bytes()
    left_out = {"test", "tests", "idlelib", "site-packages", "dist-packages"}
    assert not any(left_out & set(name.split("/")) or "_sysconfigdata" in name for name in files)
    version = ".".join(map(str, sys.version_info[:3]))
    assert (data_dir / "stdlib_text" / version).is_dir()
    packed = pack(parts["test"].columns["text"], 64)
    assert batches(packed, 4)(0)(0)["tokens"].max() < 256


def test_a_file_keeps_its_split():
    from research.data.builders.stdlib_text import split_of

    assert [split_of(name) for name in ("abc.py", "json/decoder.py", "os.py")] == ["train", "train", "train"]
    names = [f"{i}.py" for i in range(4000)]
    share = [np.mean([split_of(name) == split for name in names]) for split in ("train", "validation", "test")]
    assert np.abs(np.array(share) - [0.9, 0.05, 0.05]).max() < 0.02


def test_two_processes_prepare_at_once(tmp_path, data_dir):
    code = """
import random, sys
random.seed(0)
from research.data import stdlib_text
data = stdlib_text("train", data_dir=sys.argv[1])
print(sum(int(text.sum()) for text in data.columns["text"]), random.random())
"""
    command = [sys.executable, "-W", "error", "-c", code, tmp_path]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    results = [process.communicate() for process in both]
    total = sum(int(text.sum()) for text in stdlib_text("train", data_dir=data_dir).columns["text"])
    assert results == [(f"{total} 0.8444218515250481\n", "")] * 2  # the first number after random.seed(0)
    assert len(list((tmp_path / "stdlib_text").iterdir())) == 1


def test_tfds_gets_random_numbers_of_its_own():
    # It names its temporary folder by Python's generator: two processes with one seed would share the folder.
    drawn = []
    for _ in range(2):
        random.seed(0)
        with quiet():
            drawn.append(random.random())
        drawn.append(random.random())
    assert drawn[0] != drawn[2] and drawn[1] == drawn[3] == 0.8444218515250481


@pytest.mark.parametrize("name", ["cifar10", "imagenet2012"])
def test_mocked_tfds(name, tmp_path):
    with tfds.testing.mock_data(num_examples=6):
        data = tfds_source(name, "train", data_dir=tmp_path)
        record = data[0]
        assert len(data) == 6 and record["image"].ndim == 3 and record["image"].dtype == np.uint8
        if name == "cifar10":
            assert len(data.classes) == 10
            batch = batches(data, 4)(0)(1)
            assert {k: v.shape for k, v in batch.items()} == {"image": (4, 32, 32, 3), "label": (4,)}
            assert eval_batches(data, 4)(1)["mask"].tolist() == [1, 1, 0, 0]


class Sentences(tfds.core.GeneratorBasedBuilder):
    """Texts and pictures, as a user's own builder."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {"text": tfds.features.Text(), "picture": tfds.features.Image(shape=(4, 5, 3))}
        return tfds.core.DatasetInfo(builder=self, features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        import io

        from PIL import Image

        for i in range(3):
            file = io.BytesIO()
            Image.new("RGB", (5, 4), (i, 0, 0)).save(file, "png")
            file.seek(0)
            yield i, {"text": f"zoë {i}", "picture": file}


def test_a_builder_of_ones_own(tmp_path, capfd):
    builder = Sentences(data_dir=tmp_path, file_format="array_record")
    data = tfds_source(builder, "train")
    for record in [data[i] for i in range(3)] + data.__getitems__([0, 1, 2]):
        assert isinstance(record["text"], str) and record["text"] == f"zoë {record['picture'][0, 0, 0]}"
        assert record["picture"].shape == (4, 5, 3)
    assert data.classes is None and batches(data, 2)(0)(0).keys() == {"picture"}


class Numbers(Sentences):
    """Single values of every type; a text and a number are missing, a text is empty."""

    KINDS = dict(i=np.int64, b=np.uint8, yes=np.bool_, f=np.float32, d=np.float64, big=np.uint64)
    ROWS = (
        (-(2**40), 255, True, 0.1, 0.1, 2**63 + 1, "zoë", None, None),
        (3, 0, False, np.nan, -1e300, 0, "", "a", 1.5),
    )
    LEFT_OUT: tuple[str, ...] = ()

    def _info(self):
        features = {name: tfds.features.Scalar(kind) for name, kind in self.KINDS.items() if name not in self.LEFT_OUT}
        features |= {"text": tfds.features.Text(), "maybe": tfds.features.Scalar(np.str_, optional=True)}
        features["few"] = tfds.features.Scalar(np.float32, optional=True)
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features), disable_shuffling=True
        )

    def _generate_examples(self):
        for i, row in enumerate(self.ROWS):
            values = dict(zip((*self.KINDS, "text", "maybe", "few"), row, strict=True))
            yield i, {name: value for name, value in values.items() if name not in self.LEFT_OUT}


class PlainNumbers(Numbers):
    """Without the types that TFDS stores in another form."""

    LEFT_OUT = ("big", "d")


@pytest.mark.parametrize("made", [Numbers, PlainNumbers])
def test_single_values_are_those_that_tfds_decodes(tmp_path, made):
    data = tfds_source(made(data_dir=tmp_path, file_format="array_record"), "train")
    columns = in_memory(data).columns
    for i in range(2):
        theirs = data.data[i]  # decoded by TFDS: texts are bytes, numbers have 64 bits
        assert list(data[i]) == list(columns) and data[i].keys() == {*theirs, *data.kinds}
        for name, value in data[i].items():
            expected = theirs.get(name)
            if isinstance(expected, bytes):
                expected = expected.decode()
            np.testing.assert_equal(value, expected if isinstance(expected, str | None) else data.kinds[name](expected))
            np.testing.assert_equal(columns[name][i], value)
            objects = data.kinds[name] is str or data[0][name] is None
            assert columns[name].dtype == (object if objects else data.kinds[name])
            assert isinstance(value, data.kinds[name] | None)
    assert data.__getitems__([]) == []


class Remote(Sentences):
    """Texts from a host that cannot be reached: nothing listens at port 1."""

    def _split_generators(self, dl_manager):
        dl_manager.download("http://127.0.0.1:1/texts.zip")


def test_a_data_set_that_cannot_be_downloaded_fails_fast_and_leaves_nothing(tmp_path, caplog, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for _ in range(2):  # the settings of the downloader are restored
        began = time.monotonic()
        with pytest.raises(UserError, match=(
            r"remote/1.0.0 is not in .*, and 127.0.0.1:1 cannot be reached to download it: .*Connection refused.*"
            r"python -m research prepare remote --out FOLDER`, and copy FOLDER/remote/1.0.0 there"
        )):  # fmt: skip
            tfds_source(Remote(data_dir=tmp_path, file_format="array_record"), "train")
        assert time.monotonic() - began < 20
    assert not caplog.records
    assert not [path for path in tmp_path.rglob("*") if path.is_file() or ".tmp." in path.name or "incomp" in path.name]


def test_unknown_names_and_splits(data_dir, tmp_path):
    cases = [
        (
            lambda: tfds_source("cifar01", "train", data_dir=tmp_path),
            "'cifar01'. Did you mean 'cifar10'",
        ),
        (lambda: tfds_source("digits", "test", data_dir=data_dir), "unknown split of digits/1.0.0 'test'"),
        (lambda: tfds_source("digits", "train[:5:2]", data_dir=data_dir), "split 'train.:5:2.'"),
        (lambda: tfds_source("digits", "all[:10]", data_dir=data_dir), "split .all.:10..*\n.*not support slice"),
    ]
    for make, words in cases:
        with pytest.raises(UserError, match=words):
            make()


def test_files_that_cannot_be_read_at_random_are_told(data_dir, tmp_path):
    folder = tmp_path / "digits" / "1.0.0"
    shutil.copytree(prepared("digits", data_dir=data_dir).data_path, folder)
    about = json.loads((folder / "dataset_info.json").read_text())
    (folder / "dataset_info.json").write_text(json.dumps({**about, "fileFormat": "tfrecord"}))
    with pytest.raises(UserError, match="was prepared as tfrecord, which has no random access"):
        tfds_source(tfds.builder_from_directory(str(folder)), "train")


def test_importing_the_room_is_cheap():
    heavy = {"tensorflow_datasets", "sklearn", "PIL", "jax", "pyarrow"}
    code = f"import sys, research.data; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
    assert arrays(x=[1])[0]["x"] == 1
