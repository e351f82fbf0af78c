"""The IDX file format of MNIST and similar data sets: a header of big-endian numbers, then unsigned bytes.

Source: the description at the end of http://yann.lecun.com/exdb/mnist/.
"""

import gzip
import zlib

import numpy as np

from research.errors import UserError


def read_idx(path, *, ndim: int) -> np.ndarray:
    """Read an IDX file of unsigned bytes, plain or gzipped, as a u8 array with `ndim` axes.

    Raises UserError with the file name for a wrong magic number, and if the size differs from that in the header.
    """
    with open(path, "rb") as file:
        data = file.read()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (EOFError, OSError, zlib.error) as error:
            raise UserError(f"{str(path)!r} is truncated or damaged: {error}. Download it again.") from error
    magic, expected = data[:4].hex(), bytes([0, 0, 8, ndim]).hex()
    if magic != expected:
        raise UserError(f"{str(path)!r} starts with {magic or 'nothing'}; expected {expected}, IDX with {ndim} axes.")
    header = 4 + 4 * ndim
    if len(data) >= header:
        shape = [int(n) for n in np.frombuffer(data, ">u4", ndim, 4)]
        if len(data) == header + int(np.prod(shape)):
            return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
        content = f"{len(data) - header} bytes of data; expected {shape} from its header"
    else:
        content = f"{len(data)} bytes; expected a header of {header} bytes"
    raise UserError(f"{str(path)!r} is truncated or damaged: it has {content}. Download it again.")
