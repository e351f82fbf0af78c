"""The source files of the running Python's standard library: some ten megabytes of text that every machine has."""

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
    """Splits "train", "validation" and "test", some 90, 5 and 5 % of the files: {"text": u8 [bytes], "path"}.

    One record a file, in the order of their paths; a hash of the path decides the split, so a file stays in its
    split from one Python to the next. The version is Python's: two Pythons do not share data.
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
                    # Bytes as numbers: not every file is UTF-8.
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
            raise UserError(f"the standard library in {str(root)!r} has too few source files: is it in a zip archive?")
        return {split: self._generate_examples(root, paths) for split, paths in parts.items()}

    def _generate_examples(self, root, files):
        for path in files:
            name = path.relative_to(root).as_posix()
            yield name, {"text": np.frombuffer(path.read_bytes(), np.uint8), "path": name}


def source_files(root) -> list[pathlib.Path]:
    """The files that count, sorted: no tests, nothing installed beside the library, nothing empty."""
    files = []
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in LEFT_OUT]
        # _sysconfigdata is made by the build and full of its paths.
        chosen = [name for name in names if name.endswith(".py") and not name.startswith("_sysconfigdata")]
        files += [pathlib.Path(folder, name) for name in chosen]
    return sorted(path for path in files if path.stat().st_size)


def split_of(name: str) -> str:
    """The split of the file `name` (a relative path with slashes)."""
    share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big") / 2**32
    return "train" if share < 0.9 else "validation" if share < 0.95 else "test"
