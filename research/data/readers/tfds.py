"""TFDS without TensorFlow: prepared once as array_record files, then read record by record in any order."""

import contextlib
import dataclasses
import importlib
import os
import pathlib
import random
import re
import tempfile
from typing import Any

from research.data.builders import MODULES
from research.data.readers.decoded_cache import kept_file
from research.errors import UserError, nearest, unknown


@dataclasses.dataclass(frozen=True, eq=False)
class TfdsSource:
    """A split of a TFDS data set; `info` is TFDS's own description. Made by `tfds_source`."""

    data: Any
    info: Any
    texts: frozenset[str]

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        return self._decoded(self.data[int(i)])

    def __getitems__(self, indices):
        # TFDS's mock has the method on the object, where it cannot be called.
        if not hasattr(type(self.data.data_source), "__getitems__"):
            return [self[i] for i in indices]
        return [self._decoded(record) for record in self.data.__getitems__([int(i) for i in indices])]

    @property
    def classes(self):
        """The names of the classes where the field `label` has them, else None."""
        names = getattr(dict(self.info.features.items()).get("label"), "names", None)
        return tuple(names) if names else None

    def kept_file(self):
        """Where `in_memory` keeps what the records decode to; None for TFDS's mock, which makes them up, and where they
        are in no folder of this machine (gs://).
        """
        real, folder = hasattr(type(self.data.data_source), "__getitems__"), self.info.data_dir
        return kept_file(folder, str(self.data.split)) if real and os.path.isdir(folder) else None

    def _decoded(self, record):
        # Without TensorFlow, TFDS gives texts as bytes.
        return {
            name: value.decode() if name in self.texts and isinstance(value, bytes) else value
            for name, value in record.items()
        }


def tfds_source(name_or_builder, split: str, *, data_dir=None) -> TfdsSource:
    """A split of a TFDS data set with random access, downloaded and prepared where it is missing.

    `name_or_builder` is one of ours (digits, fashion_mnist, stdlib_text), any TFDS name ("cifar10", "name/config:1.0")
    or a builder; `split` may be TFDS's "train[:10%]". `data_dir` is TFDS's: by default the environment's
    TFDS_DATA_DIR, else ~/tensorflow_datasets. Records are dicts as the features say, texts decoded from UTF-8.
    A killed or concurrent preparation leaves nothing half-written behind the final name.

    Raises UserError for an unknown name or split, and where the data set cannot be prepared or read here: TFDS's own
    image builders need TensorFlow while they prepare (not afterwards), and their files must be array_record.
    """
    builder = prepared(name_or_builder, data_dir=data_dir)
    base = re.match(r"\w*", split).group()
    # A mocked builder has no splits and answers to any name.
    if builder.info.splits and base not in builder.info.splits and base != "all":
        raise unknown(f"split of {builder.info.full_name}", split, builder.info.splits)
    try:
        with quiet():
            data = builder.as_data_source(split)
    except (NotImplementedError, ValueError) as error:
        form = builder.info.file_format.value
        if isinstance(error, NotImplementedError) and form != "array_record":
            raise UserError(
                f"{builder.info.full_name} in {str(builder.data_path)!r} was prepared as {form}, "
                "which cannot be read at random; prepare it as array_record in another data_dir."
            ) from error
        raise UserError(f"the split {split!r} of {builder.info.full_name}: {error}") from error
    features = builder.info.features
    texts = frozenset(name for name, feature in features.items() if type(feature).__name__ == "Text")
    return TfdsSource(data, builder.info, texts)


def prepared(name_or_builder, *, data_dir=None, **options):
    """The TFDS builder, its data on disk. `options` go to a builder of ours. Raises UserError as `tfds_source`."""
    # A fresh builder each time: one that failed half-way keeps traces of it.
    make = lambda: make_builder(name_or_builder, data_dir=data_dir, **options)
    builder = make()
    if builder.data_path.exists():
        return builder
    ours = type(builder).__module__.startswith("research.")
    try:
        with quiet(progress=not ours):
            builder.download_and_prepare()
    except UserError:
        raise
    except ModuleNotFoundError as error:
        raise UserError(
            f"preparing {builder.info.full_name} needs {error.name!r}, which is not installed. Prepare it once where "
            f"it is, with file_format='array_record', and copy {str(builder.data_path)!r}; reading does not need it."
        ) from error
    except Exception as error:
        # Another process may have been first: its rename wins and ours fails.
        if not make().data_path.exists():
            raise UserError(
                f"{builder.info.full_name} cannot be prepared in {str(builder.data_path)!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
        builder = make()
    return builder


def make_builder(name_or_builder, *, data_dir=None, **options):
    """The TFDS builder of a name, or the builder given; nothing is prepared. Raises UserError for unknown names."""
    import tensorflow_datasets as tfds

    if not isinstance(name_or_builder, str):
        return name_or_builder
    # TFDS reads the variable only when it is imported.
    data_dir = pathlib.Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    with quiet():
        if name_or_builder in MODULES:
            module, name = MODULES[name_or_builder]
            builder = getattr(importlib.import_module(module), name)
            return builder(data_dir=data_dir, file_format="array_record", **options)
        try:
            return tfds.builder(name_or_builder, data_dir=data_dir, file_format="array_record")
        except tfds.core.DatasetNotFoundError:
            names = [*MODULES, *tfds.list_builders(with_community_datasets=False)]
            hint = nearest(name_or_builder, names)
            raise UserError(f"unknown data set {name_or_builder!r}.{hint} Ours: {', '.join(MODULES)}.") from None
        except (ValueError, AssertionError) as error:
            raise UserError(f"the data set {name_or_builder!r}: {error}") from error


@contextlib.contextmanager
def quiet(*, progress: bool = True):
    """No harmless remarks of TFDS while it works; without `progress` no progress bars and messages either.

    It also gives TFDS random numbers of its own: it names its temporary folder by Python's global generator, so two
    processes with the same seed would write into the same folder. And temporary folders that TFDS leaves behind are
    made in one that is removed.
    """
    from absl import logging

    level, dice, temporary = logging.get_verbosity(), random.getstate(), tempfile.tempdir
    logging.set_verbosity(logging.ERROR)
    random.seed()
    try:
        with contextlib.nullcontext() if progress else _silent(), tempfile.TemporaryDirectory() as tempfile.tempdir:
            yield
    finally:
        tempfile.tempdir = temporary
        logging.set_verbosity(level)
        random.setstate(dice)


@contextlib.contextmanager
def _silent():
    from tensorflow_datasets.core.utils import tqdm_utils

    active = tqdm_utils._active
    tqdm_utils.display_progress_bar(False)
    try:
        with contextlib.redirect_stdout(None):
            yield
    finally:
        tqdm_utils.display_progress_bar(active)
