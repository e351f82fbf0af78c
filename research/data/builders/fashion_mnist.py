"""Fashion-MNIST, read from its four IDX files in any of several folders."""

import hashlib
import pathlib

import numpy as np
import tensorflow_datasets as tfds

from research.data.readers.idx import read_idx
from research.errors import UserError

DEBIAN = "/usr/share/datasets/fashion-mnist"
CLASSES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle-boot")
# SHA-256 of the uncompressed files: every publisher compresses them differently.
FILES = {
    "train": {
        "train-images-idx3-ubyte": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
        "train-labels-idx1-ubyte": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    },
    "test": {
        "t10k-images-idx3-ubyte": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
        "t10k-labels-idx1-ubyte": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
    },
}


class FashionMnistIdx(tfds.core.GeneratorBasedBuilder):
    """Splits "train" (60,000) and "test" (10,000): {"image": u8 [28, 28, 1], "label": 0 to 9}, in the files' order.

    With `folder`, the files are read from there, and a hash of their content is part of the config name. Folders with
    different files thus never share prepared data. Without `folder`, the default folders are searched, and the files
    must match the published checksums. TFDS's own "fashion_mnist" needs TensorFlow and network access for preparation.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "The published files."}
    BUILDER_CONFIGS = [tfds.core.BuilderConfig(name="published", description="The files as published.")]

    def __init__(self, *, folder=None, **kwargs):
        self.folder = None if folder is None else pathlib.Path(folder).expanduser()
        if self.folder is not None:
            content = hashlib.sha256()
            for path in locate([self.folder]).values():
                content.update(path.read_bytes())
            kwargs["config"] = tfds.core.BuilderConfig(name=f"folder_{content.hexdigest()[:12]}")
        super().__init__(**kwargs)

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Zalando's article images, 28 x 28 grey, in ten classes (Xiao et al. 2017, arXiv:1708.07747).",
            homepage="https://github.com/zalandoresearch/fashion-mnist",
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Tensor(shape=(28, 28, 1), dtype=np.uint8, encoding="bytes"),
                    "label": tfds.features.ClassLabel(names=list(CLASSES)),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        downloads = pathlib.Path(self._data_dir_root) / "downloads"
        files = locate([self.folder] if self.folder else [pathlib.Path(DEBIAN), downloads])
        return {split: self._generate_examples(files, split) for split in FILES}

    def _generate_examples(self, files, split):
        images, labels = (
            read_idx(files[name], ndim=ndim) for name, ndim in zip(FILES[split], (3, 1), strict=True)
        )  # fmt: skip
        if images.shape[1:] != (28, 28) or len(images) != len(labels) or labels.max(initial=0) > 9:
            raise UserError(
                f"the {split} files in {str(files[next(iter(FILES[split]))].parent)!r} are not Fashion-MNIST: images "
                f"{images.shape}, labels {labels.shape} up to {labels.max(initial=0)}; expected 28 x 28 and at most 9."
            )
        if self.folder is None:
            for (name, digest), array in zip(FILES[split].items(), (images, labels), strict=True):
                header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
                if hashlib.sha256(header + array.tobytes()).hexdigest() != digest:
                    raise UserError(
                        f"{str(files[name])!r} is not the published file. To use it anyway, pass its folder: "
                        "fashion_mnist(split, folder=...) or FASHION_MNIST_DIR."
                    )
        for i in range(len(images)):
            yield i, {"image": images[i][..., None], "label": int(labels[i])}


def locate(folders) -> dict[str, pathlib.Path]:
    """Return the four files, {name: path}, from the first folder that has them all, plain or gzipped.

    A folder named `downloads` is searched for the file names of TFDS too. Raises UserError, with all searched folders,
    if none has all four files.
    """
    names = [name for split in FILES.values() for name in split]
    for folder in folders:
        files = {}
        for name in names:
            plain = [folder / name, folder / f"{name}.gz", folder / name.replace("-idx", ".idx")]
            downloads = sorted(folder.rglob(f"fashion-mnist*_{name}*")) if folder.name == "downloads" else []
            downloads = [path for path in downloads if path.suffix in (".gz", "")]
            if existing := [path for path in [*plain, *downloads] if path.is_file()]:
                files[name] = existing[0]
        if len(files) == len(names):
            return files
    searched = ", ".join(repr(str(folder)) for folder in folders)
    raise UserError(
        f"the Fashion-MNIST files are not in {searched}. Expected {', '.join(names)}, each plain or .gz. Get them with "
        "`apt-get install dataset-fashion-mnist` (Debian, Ubuntu) or from "
        "https://github.com/zalandoresearch/fashion-mnist, and set FASHION_MNIST_DIR to their folder or pass "
        "fashion_mnist(split, folder=...)."
    )
