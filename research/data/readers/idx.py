"""The IDX file format of MNIST and its successors: a header of big-endian numbers, then unsigned bytes.

Source: the description at the end of http://yann.lecun.com/exdb/mnist/.
"""

import gzip
import zlib

import numpy as np

from research.errors import UserError


def read_idx(path, *, ndim: int) -> np.ndarray:
    """An IDX file of unsigned bytes, plain or gzipped, as u8 with `ndim` axes.

    Raises UserError, which names the file, for another magic number and for a size that its header does not promise.
    """
    with open(path, "rb") as file:
        data = file.read()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise UserError(f"{str(path)!r} is truncated or damaged: {error}. Fetch it again.") from error
    magic, expected = data[:4].hex(), bytes([0, 0, 8, ndim]).hex()
    if magic != expected:
        raise UserError(f"{str(path)!r} starts with {magic or 'nothing'}; an IDX file of {ndim} axes with {expected}.")
    header = 4 + 4 * ndim
    if len(data) >= header:
        shape = [int(n) for n in np.frombuffer(data, ">u4", ndim, 4)]
        if len(data) == header + int(np.prod(shape)):
            return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
        given = f"{len(data) - header} bytes of data where its header promises {shape}"
    else:
        given = f"{len(data)} bytes"
    raise UserError(f"{str(path)!r} is truncated or damaged: it has {given}. Fetch it again.")
