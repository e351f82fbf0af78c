"""Reading and writing files of arrays in the safetensors format, with memory maps and without PyTorch.

A file has 8 bytes with the length of the header, the header in JSON {name: {dtype, shape, data_offsets}}, and the data.
"""

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

import ml_dtypes
import numpy as np

from research.errors import UNPRINTABLE, UserError
from research.files import atomic_write, open_regular

LONGEST_HEADER = 100_000_000  # bytes, as in the reference implementation
DTYPES = {
    "BOOL": np.bool_, "U8": np.uint8, "I8": np.int8, "U16": np.uint16, "I16": np.int16, "U32": np.uint32,
    "I32": np.int32, "U64": np.uint64, "I64": np.int64, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F32": np.float32, "F64": np.float64, "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2,
}  # fmt: skip
NAMES = {np.dtype(dtype): name for name, dtype in DTYPES.items()}


class Stored(NamedTuple):
    """An array in a file. `strides` are in elements; None is row-major."""

    file: Path
    dtype: np.dtype
    shape: tuple[int, ...]
    offset: int
    strides: tuple[int, ...] | None = None

    def map(self) -> np.ndarray:
        """Map the array into memory, read-only. Only the parts that are used are read, and only while it is in use."""
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        span = math.prod(self.shape)
        if self.strides is not None:
            span = 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))
        raw = np.memmap(self.file, np.uint8, "r", self.offset, span * self.dtype.itemsize)
        values = raw.view(np.ndarray).view(self.dtype)  # from bytes: the offset may not be a multiple of the item size
        if self.strides is None:
            return values.reshape(self.shape)
        byte_strides = [stride * self.dtype.itemsize for stride in self.strides]
        return np.lib.stride_tricks.as_strided(values, self.shape, byte_strides, writeable=False)


def read_header(file: Path) -> dict[str, Stored]:
    """Return the arrays of a safetensors file, without reading their data.

    Raises UserError if the file is truncated, or if its header is damaged: not JSON, a name that occurs twice or is not
    printable, an unknown dtype, a size that does not fit the shape, or data that overlap, leave gaps or lie outside the
    file.
    """
    with open_regular(file) as stream:
        size = os.fstat(stream.fileno()).st_size
        length = int.from_bytes(stream.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEADER):
            raise _damaged(file, f"its header has {length} bytes, the file {size} (an incomplete download?)")
        try:
            header = json.loads(stream.read(length).decode("utf-8"), object_pairs_hook=_without_duplicates)
        except (ValueError, RecursionError) as error:
            raise _damaged(file, f"its header is not valid: {error}") from error
    if not isinstance(header, dict):
        raise _damaged(file, "its header is not an object")
    header.pop("__metadata__", None)
    found = {name: _entry(file, name, value, start=8 + length) for name, value in header.items()}
    end = 8 + length
    for name, stored in sorted(found.items(), key=lambda item: (item[1].offset, math.prod(item[1].shape))):
        if stored.offset != end:
            problem = "overlap those of another array" if stored.offset < end else "begin behind a gap"
            raise _damaged(file, f"the data of {name!r} {problem}")
        end += math.prod(stored.shape) * stored.dtype.itemsize
    if end != size:
        raise _damaged(file, f"its arrays end at byte {end}, the file at {size} (an incomplete download?)")
    return found


def _without_duplicates(pairs):
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"the name {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return dict(pairs)


def _entry(file, name, value, *, start):
    check_name(file, name)
    try:
        dtype, shape, (begin, end) = value["dtype"], value["shape"], value["data_offsets"]
        numbers = [begin, end, *shape]
    except (TypeError, KeyError, ValueError) as error:
        raise _damaged(file, f"the entry {name!r} is not valid") from error
    if not isinstance(dtype, str) or dtype not in DTYPES:
        raise UserError(f"{file}: {name!r} has the dtype {str(dtype)[:20]!r}; expected one of {', '.join(DTYPES)}.")
    if not all(type(number) is int and 0 <= number < 2**63 for number in numbers):
        raise _damaged(file, f"the entry {name!r} has sizes that are not whole numbers of at least 0")
    dtype = np.dtype(DTYPES[dtype])
    if math.prod(shape) * dtype.itemsize != end - begin:
        raise _damaged(file, f"{name!r} has {end - begin} bytes, but is {dtype}{shape}")
    return Stored(file, dtype, tuple(shape), start + begin)


def check_name(file, name):
    """Raise UserError for the name of an array that has control characters."""
    if UNPRINTABLE.search(name):
        raise _damaged(file, f"the name {name[:80]!r} has control characters")


def _damaged(file, reason):
    return UserError(f"{file} is damaged: {reason}.")


def write_safetensors(file: Path, arrays: Mapping[str, tuple[np.dtype, tuple[int, ...]]], values: Iterable[np.ndarray]):
    """Write a safetensors file atomically, one array at a time.

    `arrays` is {name: (dtype, shape)}, and `values` yields the arrays in this order. Raises UserError for a dtype that
    the format does not have.
    """
    header, offset = {"__metadata__": {"format": "pt"}}, 0  # older versions of transformers need the metadata
    for name, (dtype, shape) in arrays.items():
        if np.dtype(dtype) not in NAMES:
            raise UserError(f"{name} has the dtype {dtype}; expected one of {', '.join(map(str, NAMES))}.")
        end = offset + math.prod(shape) * np.dtype(dtype).itemsize
        header[name] = {"dtype": NAMES[np.dtype(dtype)], "shape": list(shape), "data_offsets": [offset, end]}
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # aligns the data
    with atomic_write(file) as part, open(part, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for (name, (dtype, shape)), value in zip(arrays.items(), values, strict=True):
            assert value.shape == shape and value.dtype == dtype, name
            stream.write(np.ascontiguousarray(value).reshape(-1).view(np.uint8))
        stream.flush()
        os.fsync(stream.fileno())
