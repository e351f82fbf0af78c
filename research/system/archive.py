"""Reading .npz archives that may be damaged or hostile."""

import math
import zipfile

import numpy as np
from numpy.lib import format as npy

FREE, RATIO = 256 * 2**20, 200  # an archive may unpack to FREE bytes, or to RATIO times its size if that is more
HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_npz(file) -> dict[str, np.ndarray]:
    """Read all arrays of an .npz archive from an open file, without pickles.

    The declared sizes are checked before any array is unpacked, and the checksum of each array afterwards. Raises
    ValueError for every kind of damage, for pickled objects, and for an archive that unpacks to more than its size
    explains.
    """
    try:
        size = file.seek(0, 2)
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            unpacked, most = sum(member.file_size for member in members), max(FREE, RATIO * size)
            if unpacked > most:
                raise ValueError(f"its {size} bytes unpack to {unpacked}; expected at most {most}")
            return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}
    except Exception as error:  # zipfile and numpy raise anything from KeyError to NotImplementedError for damage
        reason = str(error).strip().split("\n")[0][:200]
        raise ValueError(reason or type(error).__name__) from error


def _array(archive, member):
    """Read one array, whose header must declare as many bytes as the archive does."""
    with archive.open(member) as file:
        version = npy.read_magic(file)
        if version not in HEADERS:
            raise ValueError(f"{member.filename} has the unknown version {version}")
        shape, _, dtype = HEADERS[version](file)
        declared = math.prod(shape) * dtype.itemsize + file.tell()
    if dtype.hasobject:
        raise ValueError(f"{member.filename} has pickled objects, which can run code when they are read")
    if min(shape, default=0) < 0 or declared != member.file_size:
        raise ValueError(f"{member.filename} declares {dtype}{list(shape)}, but has {member.file_size} bytes")
    with archive.open(member) as file:
        array = npy.read_array(file, allow_pickle=False)
        if file.read(1):  # also compares the checksum
            raise ValueError(f"{member.filename} has more bytes than its array")
        return array
