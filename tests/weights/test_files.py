"""Files of weights: what PyTorch and safetensors write, and what is damaged or hostile."""

import collections
import json
import os
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from research.errors import UserError
from research.weights.files import read_header, write_safetensors
from research.weights.folders import read_checkpoint, read_config
from research.weights.pickled import LONGEST_PICKLE, read_pickled
from tests.truth import load
from tests.weights.disk import arrays_in, safetensors

TRUTH = load("torch_files")
ARRAYS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float32)}


def values(part):
    return {name.removeprefix(part): x for name, x in TRUTH.items() if name.startswith(part)}


@pytest.mark.parametrize(("kind", "prefix"), [("zip", "module."), ("legacy", "module."), ("flat", "")])
def test_checkpoints_of_pytorch(tmp_path, kind, prefix):
    file = tmp_path / "model.pth"
    file.write_bytes(TRUTH[f"file/{kind}"].tobytes())
    stored = read_checkpoint(file)
    assert set(stored) == {prefix + name for name in values("value/")}
    for name, x in values("value/").items():
        np.testing.assert_array_equal(stored[prefix + name].map().astype(np.float32), x)
    types = {name: stored[prefix + name].dtype for name in ("half", "bfloat", "double", "long", "flags")}
    assert list(types.values()) == [np.float16, ml_dtypes.bfloat16, np.float64, np.int64, np.bool_]


def test_a_safetensors_file_with_small_types(tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(TRUTH["file/safetensors"].tobytes())
    for name, x in arrays_in(tmp_path).items():
        np.testing.assert_array_equal(x.astype(np.float32), TRUTH[f"small/{name}"])


def test_a_view_is_written_as_it_reads(tmp_path):
    """The array is not contiguous, the case in which a library writes other numbers."""
    x = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write_safetensors(tmp_path / "model.safetensors", {"x": (x.dtype, x.shape)}, [x])
    np.testing.assert_array_equal(arrays_in(tmp_path)["x"], x)
    with pytest.raises(UserError, match="x has the dtype complex64"):
        write_safetensors(tmp_path / "other.safetensors", {"x": (np.dtype(np.complex64), ())}, [])


DAMAGED = {
    "a huge header": (lambda data: struct.pack("<Q", 2**62) + data[8:], "its header has 4611686018427387904 bytes"),
    "a header beyond the end": (lambda data: struct.pack("<Q", len(data) - 7) + data[8:], "incomplete download"),
    "only a length": (lambda data: data[:5], "incomplete download"),
    "truncated data": (lambda data: data[:-1], "its arrays end at byte"),
    "more data": (lambda data: data + b"x", "its arrays end at byte"),
    "no JSON": (lambda data: data[:8] + b"[" + data[9:], "its header is not valid"),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_file(tmp_path, kind):
    damage, words = DAMAGED[kind]
    file = safetensors(tmp_path / "model.safetensors", ARRAYS)
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match=f"model.safetensors is damaged: .*{words}"):
        read_checkpoint(tmp_path)


ENTRIES = {
    "overlap": ({"b": {"dtype": "F32", "shape": [2], "data_offsets": [20, 28]}}, "'b' overlap those of another"),
    "gap": ({"b": {"dtype": "F32", "shape": [1], "data_offsets": [28, 32]}}, "'b' begin behind a gap"),
    "outside": ({"b": {"dtype": "F32", "shape": [3], "data_offsets": [24, 36]}}, "its arrays end at byte"),
    "backwards": ({"b": {"dtype": "F32", "shape": [2], "data_offsets": [32, 24]}}, "'b' has -8 bytes"),
    "negative": ({"b": {"dtype": "F32", "shape": [-2], "data_offsets": [24, 32]}}, "'b' has sizes that are not whole"),
    "fraction": ({"b": {"dtype": "F32", "shape": [2.0], "data_offsets": [24, 32]}}, "'b' has sizes that are not whole"),
    "size": ({"b": {"dtype": "F32", "shape": [2, 2**60], "data_offsets": [24, 32]}}, "'b' has 8 bytes, but is float32"),
    "type": (
        {"b": {"dtype": "F4", "shape": [16], "data_offsets": [24, 32]}},
        "'b' has the dtype 'F4'; expected",
    ),
    "list as type": ({"b": {"dtype": [], "shape": [2], "data_offsets": [24, 32]}}, "'b' has the dtype"),
    "no entry": ({"b": 3}, "the entry 'b' is not valid"),
    "terminal": ({"\x1b[2J": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}}, "has control characters"),
}


@pytest.mark.parametrize("kind", ENTRIES)
def test_a_tampered_header(tmp_path, kind):
    header, words = ENTRIES[kind]
    safetensors(tmp_path / "model.safetensors", ARRAYS, header=header)
    with pytest.raises(UserError, match=words):
        read_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"a": 1, "a": 2}', "the name 'a' occurs twice"),
        ("[]", "its header is not an object"),
        ("[" * 100_000, "its header is not valid"),
    ],
)
def test_a_header_that_is_no_table(tmp_path, text, words):
    file = tmp_path / "x.safetensors"
    file.write_bytes(struct.pack("<Q", len(text)) + text.encode())
    with pytest.raises(UserError, match=words):
        read_header(file)


def shards(folder, weight_map):
    safetensors(folder / "one.safetensors", {"a": ARRAYS["a"]})
    safetensors(folder / "two.safetensors", {"b": ARRAYS["b"]})
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


def test_shards_are_read_as_the_index_says(tmp_path):
    shards(tmp_path, {"b": "two.safetensors", "a": "one.safetensors"})
    for name, x in arrays_in(tmp_path).items():
        np.testing.assert_array_equal(x, ARRAYS[name])


@pytest.mark.parametrize(
    ("weight_map", "words"),
    [
        ({"a": "one.safetensors", "b": "tow.safetensors"}, "has no file tow.safetensors. Did you mean 'two.safe"),
        ({"a": "two.safetensors", "b": "two.safetensors"}, "expects the array 'a' in two.safetensors"),
        ({"a": "one.safetensors"}, None),
        ({"a": "../one.safetensors"}, r"names the file '\.\./one.safetensors'; expected the name of a file"),
        ({"a": "/etc/passwd"}, "names the file '/etc/passwd'"),
        ({"a": 3}, "is damaged: expected a weight_map"),
        ([], "is damaged: expected a weight_map"),
    ],
)
def test_a_wrong_index(tmp_path, weight_map, words):
    shards(tmp_path, weight_map)
    if words is None:
        assert set(read_checkpoint(tmp_path)) == {"a"}
        weight_map["b"] = "one.safetensors"
        shards(tmp_path, weight_map)
        words = "expects the array 'b' in one.safetensors, which does not have it"
    with pytest.raises(UserError, match=words):
        read_checkpoint(tmp_path)


def test_an_index_that_omits_an_array(tmp_path):
    shards(tmp_path, {"a": "one.safetensors"})
    safetensors(tmp_path / "one.safetensors", ARRAYS)
    with pytest.raises(UserError, match="has the array 'b', which is not in model.safetensors.index.json"):
        read_checkpoint(tmp_path)


def test_links_out_of_a_folder_are_not_followed(tmp_path):
    (tmp_path / "inside").mkdir()
    secret = safetensors(tmp_path / "secret.safetensors", ARRAYS)
    (tmp_path / "inside" / "model.safetensors").symlink_to(secret)
    with pytest.raises(UserError, match="is a link out of"):
        read_checkpoint(tmp_path / "inside")
    assert set(read_checkpoint(secret)) == {"a", "b"}


def hub(tmp_path, monkeypatch, name="models--org--tiny", revision="0" * 40):
    """A repository as the Hub's client stores it: links of a snapshot lead to blobs."""
    repository = tmp_path / "hub" / name
    (repository / "refs").mkdir(parents=True)
    (repository / "blobs").mkdir()
    snapshot = repository / "snapshots" / revision
    snapshot.mkdir(parents=True)
    safetensors(repository / "blobs" / ("ab" * 32), ARRAYS)
    (snapshot / "model.safetensors").symlink_to(f"../../blobs/{'ab' * 32}")
    (repository / "blobs" / ("c" * 40)).write_text('{"model_type": "gpt2"}')
    (snapshot / "config.json").symlink_to(f"../../blobs/{'c' * 40}")
    (repository / "refs" / "main").write_text(revision)
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    return repository


def test_the_cache_of_the_hub(tmp_path, monkeypatch):
    repository = hub(tmp_path, monkeypatch)
    assert set(read_checkpoint("org/tiny")) == {"a", "b"} and read_config("org/tiny") == {"model_type": "gpt2"}
    with pytest.raises(UserError, match="no repository of this name in .* Did you mean 'org/tiny'.* Nothing is down"):
        read_checkpoint("org/tinny")
    monkeypatch.delenv("HF_HUB_CACHE")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    assert set(read_checkpoint("org/tiny")) == {"a", "b"}
    (repository / "refs" / "main").write_text("../../../../etc")
    with pytest.raises(UserError, match="has no snapshot of its main revision"):
        read_checkpoint("org/tiny")


def test_a_folder_without_weights_or_config(tmp_path):
    with pytest.raises(UserError, match="has no model.safetensors or pytorch_model.bin, and 0 other files"):
        read_checkpoint(tmp_path)
    with pytest.raises(UserError, match="has no file config.json"):
        read_config(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(UserError, match="config.json holds a list; expected an object"):
        read_config(tmp_path)
    safetensors(tmp_path / "only.safetensors", ARRAYS)
    assert set(read_checkpoint(tmp_path)) == {"a", "b"}
    safetensors(tmp_path / "second.safetensors", ARRAYS)
    with pytest.raises(UserError, match="2 other files of weights: only.safetensors, second.safetensors"):
        read_checkpoint(tmp_path)
    with pytest.raises(UserError, match="there is no file or folder"):
        read_checkpoint(tmp_path / "absent" / "deep" / "folder")
    (tmp_path / "model.h5").write_bytes(b"")
    with pytest.raises(UserError, match="has the suffix '.h5'; expected one of .safetensors"):
        read_checkpoint(tmp_path / "model.h5")


class Payload:
    """Runs a command when an ordinary unpickler reads it."""

    def __init__(self, file):
        self.file = file

    def __reduce__(self):
        return os.system, (f"touch {self.file}",)


def zipped(file, content, *, name="archive/data.pkl"):
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, content)
    return file


@pytest.mark.parametrize("legacy", [True, False])
def test_a_pickle_that_runs_code_is_refused(tmp_path, legacy):
    content = {"weight": Payload(tmp_path / "ran")}
    file = tmp_path / "model.pth"
    if legacy:
        parts = (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}, content, [])
        file.write_bytes(b"".join(pickle.dumps(part, 2) for part in parts))
    else:
        zipped(file, pickle.dumps(content, 2))
    with pytest.raises(UserError, match=r"model.pth is refused: it contains (posix|nt)\.system, which is not a tensor"):
        read_checkpoint(file)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("name", ["eval", "getattr", "__import__"])
def test_no_builtin_is_allowed(tmp_path, name):
    file = zipped(tmp_path / "model.pth", f"cbuiltins\n{name}\n.".encode())
    with pytest.raises(UserError, match=f"it contains (builtins|__builtin__).{name}"):
        read_pickled(file)


def tensor_pickle(*, size=4, offset=0, shape=(2, 2), strides=(2, 1), key="0"):
    """The pickle of {"x": a tensor}, by opcodes, as PyTorch writes it."""
    pickled = lambda value: pickle.dumps(value, 2)[2:-1]
    storage = (
        b"(" + pickled("storage") + b"ctorch\nFloatStorage\n" + pickled(key) + pickled("cpu") + pickled(size) + b"tQ"
    )
    arguments = b"(" + storage + pickled(offset) + pickled(shape) + pickled(strides) + b"\x89" + b"}" + b"t"
    return b"\x80\x02}" + pickled("x") + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"Rs."


def archive(file, content, data=b"\0" * 16, **options):
    with zipfile.ZipFile(file, "w", **options) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/data/0", data)
    return file


def test_the_pickle_of_the_next_tests_is_sound(tmp_path):
    np.testing.assert_array_equal(
        read_pickled(archive(tmp_path / "a.pth", tensor_pickle()))["x"].map(), np.zeros((2, 2))
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"offset": 1}, "reaches beyond its storage"),
        ({"strides": (2, -1)}, "not whole numbers of at least 0"),
        ({"strides": (2**61, 1)}, "reaches beyond its storage"),
        ({"shape": (2,)}, "without a storage"),
        ({"size": 5}, "the storage 0 is truncated"),
        ({"key": "1"}, "the storage 1 is missing"),
    ],
)
def test_a_tensor_outside_its_storage(tmp_path, options, words):
    with pytest.raises(UserError, match=words):
        read_pickled(archive(tmp_path / "a.pth", tensor_pickle(**options)))


def test_damaged_archives(tmp_path, monkeypatch):
    file = archive(tmp_path / "a.pth", tensor_pickle())
    whole = file.read_bytes()
    for length in (0, 3, 30, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(UserError, match="is not a checkpoint of PyTorch, or is damaged"):
            read_pickled(file)
    with pytest.raises(UserError, match="its arrays are compressed"):
        read_pickled(archive(file, tensor_pickle(), compression=zipfile.ZIP_DEFLATED))
    with pytest.raises(UserError, match="holds a list; expected a dict of tensors"):
        read_pickled(archive(file, pickle.dumps([1], 2)))
    with pytest.raises(UserError, match="the entry 'lr' is a float; expected a tensor"):
        read_pickled(archive(file, pickle.dumps({"lr": 0.1}, 2)))
    assert LONGEST_PICKLE >= 2**20
    monkeypatch.setattr("research.weights.pickled.LONGEST_PICKLE", 10)
    with pytest.raises(UserError, match="its pickle has .* bytes, expected at most 10"):
        read_pickled(archive(file, tensor_pickle()))


def test_truncated_legacy_files(tmp_path):
    file, whole = tmp_path / "a.pth", TRUTH["file/legacy"].tobytes()
    for length in (0, 5, 40, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:length])
        with pytest.raises(UserError, match="is not a checkpoint of PyTorch, or is damaged"):
            read_pickled(file)


def test_plain_containers_are_no_code():
    """The list of what a pickle may name has nothing but constructors of tensors, storages and ordered dicts."""
    from research.weights.pickled import ALLOWED

    assert {module for module, _ in ALLOWED} == {"collections", "torch", "torch._utils"}
    assert ALLOWED["collections", "OrderedDict"] is collections.OrderedDict
