"""Reading PyTorch's checkpoints (`.pth`, `.bin`) without PyTorch and without running code that they contain.

Since PyTorch 1.6 a checkpoint is a zip archive with `data.pkl` and one file of raw values per storage. Before, it is a
sequence of pickles, followed by the storages. The unpickler knows the constructors of tensors and nothing else: a
pickle that names any other function is refused before the function would be called.
"""

import collections
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from research.errors import UserError
from research.files import open_regular
from research.weights.files import Stored, check_name

MAGIC = 0x1950A86A20F9469CFC6C  # begins a checkpoint before PyTorch 1.6
LONGEST_PICKLE = 100_000_000  # bytes
STORAGES = {
    "DoubleStorage": np.float64, "FloatStorage": np.float32, "HalfStorage": np.float16,
    "BFloat16Storage": ml_dtypes.bfloat16, "LongStorage": np.int64, "IntStorage": np.int32, "ShortStorage": np.int16,
    "CharStorage": np.int8, "ByteStorage": np.uint8, "BoolStorage": np.bool_,
}  # fmt: skip
NESTED = ("state_dict", "model", "state_dict_ema", "model_ema")  # where training scripts put the weights


class _Storage(NamedTuple):
    key: str
    dtype: np.dtype
    size: int


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage, offset, shape, strides, *_):
    """Stand in for `torch._utils._rebuild_tensor` and its second version, whose further arguments have no effect."""
    tensor = _Tensor(storage, offset, tuple(shape), tuple(strides))
    numbers = (offset, *tensor.shape, *tensor.strides)
    if not isinstance(storage, _Storage) or len(tensor.shape) != len(tensor.strides):
        raise pickle.UnpicklingError("it has a tensor without a storage")
    if not all(type(number) is int and 0 <= number < 2**62 for number in numbers):
        raise pickle.UnpicklingError("it has a tensor with sizes that are not whole numbers of at least 0")
    reach = offset + 1 + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    if 0 not in tensor.shape and reach > storage.size:
        raise pickle.UnpicklingError("it has a tensor that reaches beyond its storage")
    return tensor


ALLOWED = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): lambda tensor, *_: tensor,
    **{("torch", name): np.dtype(dtype) for name, dtype in STORAGES.items()},
}


class _Unpickler(pickle.Unpickler):
    def find_class(self, module, name):
        if (module, name) not in ALLOWED:
            raise UserError(
                f"it contains {module}.{name}, which is not a tensor. Such an object can run code when it is read. "
                "Save the weights alone: torch.save(model.state_dict(), FILE), or as safetensors."
            )
        return ALLOWED[module, name]

    def persistent_load(self, identifier):
        kind, dtype, key, _, size, *view = identifier
        if kind != "storage" or not isinstance(dtype, np.dtype) or type(size) is not int or any(view):
            raise pickle.UnpicklingError("it has an unknown kind of storage")
        return _Storage(str(key), dtype, size)


def read_pickled(file: Path) -> dict[str, Stored]:
    """Return the arrays of a PyTorch checkpoint, without reading their data.

    The weights may be nested in an entry such as "model" or "state_dict". Raises UserError if the file is damaged or
    has no weights, and for a pickle with anything but tensors, numbers, texts and containers.
    """
    try:
        with open_regular(file) as stream:
            is_zip = stream.read(4) == b"PK\x03\x04"
            stream.seek(0)
            content, offsets = (_read_zip if is_zip else _read_legacy)(stream)
    except UserError as error:
        raise UserError(f"{file} is refused: {error}") from error
    except Exception as error:  # a damaged pickle or archive raises anything from EOFError to AttributeError
        reason = str(error).strip().split("\n")[0][:200] or type(error).__name__
        raise UserError(f"{file} is not a checkpoint of PyTorch, or is damaged: {reason}.") from error
    found = {}
    for name, tensor in _state_dict(file, content).items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise UserError(f"{file}: the entry {str(name)[:80]!r} is a {type(tensor).__name__}; expected a tensor.")
        check_name(file, name)
        key, dtype, _ = tensor.storage
        offset = offsets[key] + tensor.offset * dtype.itemsize
        found[name] = Stored(file, dtype, tensor.shape, offset, tensor.strides)
    return found


def _state_dict(file, content: Any):
    """Return the dict of tensors, which may be nested in one that also has the epoch and the optimizer's state."""
    while isinstance(content, dict):
        inner = [name for name in NESTED if isinstance(content.get(name), dict)]
        if not inner:
            break
        content = content[inner[0]]
    if not isinstance(content, dict) or not content:
        raise UserError(f"{file} holds a {type(content).__name__}; expected a dict of tensors.")
    return content


def _check_storages(storages, offsets, ends):
    for storage in storages:
        if storage.key not in offsets:
            raise pickle.UnpicklingError(f"the storage {storage.key} is missing")
        if offsets[storage.key] + storage.size * storage.dtype.itemsize > ends[storage.key]:
            raise pickle.UnpicklingError(f"the storage {storage.key} is truncated")


def _storages(content):
    """Yield the storages of all tensors in nested containers."""
    pending = [content]
    while pending:
        value = pending.pop()
        if isinstance(value, _Tensor):
            yield value.storage
        elif isinstance(value, dict):
            pending.extend(value.values())
        elif isinstance(value, list | tuple):
            pending.extend(value)


def _read_zip(stream):
    offsets, ends = {}, {}
    with zipfile.ZipFile(stream) as archive:
        members = archive.infolist()
        if len({member.filename for member in members}) < len(members):
            raise pickle.UnpicklingError("it has two members of the same name")
        (pickled,) = (member for member in members if Path(member.filename).name == "data.pkl")
        folder = pickled.filename.removesuffix("data.pkl")
        if pickled.file_size > LONGEST_PICKLE:
            raise pickle.UnpicklingError(f"its pickle has {pickled.file_size} bytes, expected at most {LONGEST_PICKLE}")
        if f"{folder}byteorder" in archive.namelist() and archive.read(f"{folder}byteorder") != b"little":
            raise pickle.UnpicklingError("its numbers are big-endian")
        with archive.open(pickled) as file:
            content = _Unpickler(file, encoding="utf-8").load()
    for member in members:
        if not member.filename.startswith(f"{folder}data/"):
            continue
        if member.compress_type != zipfile.ZIP_STORED:
            raise pickle.UnpicklingError("its arrays are compressed")
        stream.seek(member.header_offset + 26)
        begin = member.header_offset + 30 + sum(struct.unpack("<HH", stream.read(4)))  # after the name and extra fields
        key = member.filename.removeprefix(f"{folder}data/")
        offsets[key], ends[key] = begin, min(begin + member.file_size, os.fstat(stream.fileno()).st_size)
    _check_storages(_storages(content), offsets, ends)
    return content, offsets


def _read_legacy(stream):
    load = lambda: _Unpickler(stream, encoding="utf-8").load()
    if load() != MAGIC or load() != 1001:
        raise pickle.UnpicklingError("it does not begin with the number of a checkpoint")
    if not load()["little_endian"]:
        raise pickle.UnpicklingError("its numbers are big-endian")
    content, keys, offsets, ends = load(), load(), {}, {}
    storages = list(_storages(content))
    widths = {storage.key: storage.dtype.itemsize for storage in storages}
    size, position = os.fstat(stream.fileno()).st_size, stream.tell()
    for key in keys:
        stream.seek(position)
        count = int.from_bytes(stream.read(8), "little")
        offsets[key] = position + 8
        position = ends[key] = min(position + 8 + count * widths.get(key, 1), size)
    _check_storages(storages, offsets, ends)
    return content, offsets
