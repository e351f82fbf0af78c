"""The source files of the running Python's standard library: about 10 MB of text, available on every machine."""

import hashlib
import os
import pathlib
import sys
import sysconfig

import numpy as np
import tensorflow_datasets as tfds

from research.errors import UserError

LEFT_OUT = {"test", "tests", "idlelib", "site-packages", "dist-packages", "__pycache__"}


class StdlibText(tfds.core.GeneratorBasedBuilder):
    """Splits "train", "validation" and "test", about 90, 5 and 5 % of the files: {"text": u8 [bytes], "path"}.

    There is one record per file, sorted by path. A hash of the path determines the split, thus a file stays in its
    split across Python versions. The version is Python's, thus different Python versions do not share prepared data.
    """

    VERSION = tfds.core.Version("{}.{}.{}".format(*sys.version_info[:3]))
    RELEASE_NOTES = {str(VERSION): "The standard library of this Python."}

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Source files of Python's standard library, without its tests and idlelib.",
            homepage="https://docs.python.org/3/library/",
            license="PSF-2.0",
            features=tfds.features.FeaturesDict(
                {
                    # Bytes, because not every file is UTF-8.
                    "text": tfds.features.Tensor(shape=(None,), dtype=np.uint8, encoding="bytes"),
                    "path": tfds.features.Text(),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        root = pathlib.Path(sysconfig.get_paths()["stdlib"])
        parts = {"train": [], "validation": [], "test": []}
        for path in source_files(root):
            parts[split_of(path.relative_to(root).as_posix())].append(path)
        if not all(parts.values()):
            raise UserError(f"the standard library in {str(root)!r} has too few source files. Is it a zip archive?")
        return {split: self._generate_examples(root, paths) for split, paths in parts.items()}

    def _generate_examples(self, root, files):
        for path in files:
            name = path.relative_to(root).as_posix()
            yield name, {"text": np.frombuffer(path.read_bytes(), np.uint8), "path": name}


def source_files(root) -> list[pathlib.Path]:
    """List the library's source files, sorted, without tests, idlelib, installed packages and empty files."""
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        # The build generates _sysconfigdata, which is full of its paths.
        sources = [name for name in names if name.endswith(".py") and not name.startswith("_sysconfigdata")]
        files += [pathlib.Path(folder, name) for name in sources]
    return sorted(path for path in files if path.stat().st_size)


def split_of(name: str) -> str:
    """Return the split of the file `name` (a relative path with forward slashes)."""
    fraction = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return "train" if fraction < 0.9 else "validation" if fraction < 0.95 else "test"
