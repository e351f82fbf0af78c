"""TFDS without TensorFlow: prepare data sets once as array_record files, and read them with random access."""

import contextlib
import dataclasses
import importlib
import logging
import os
import pathlib
import random
import re
import shutil
import tempfile
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from research.data.builders import MODULES
from research.data.readers import records
from research.data.readers.decoded_cache import kept_file
from research.errors import UserError, nearest, unknown


@dataclasses.dataclass(frozen=True, eq=False)
class TfdsSource:
    """A split of a TFDS data set, created by `tfds_source`; `info` is its tfds.core.DatasetInfo."""

    data: Any
    info: Any
    kinds: Mapping[str, type | None]  # of each field that is a text or a single number, else None

    def __len__(self):
        return len(self.data)

    def __getitem__(self, i):
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} of {len(self)}")
        return self.__getitems__([i])[0]

    def __getitems__(self, indices):
        indices = [int(i) for i in indices]
        # Trap: TFDS's mock sets the method on the instance, where it cannot be called.
        if not hasattr(type(self.data.data_source), "__getitems__"):
            return [self._decoded(self.data[i]) for i in indices]
        if not self._plain():
            return [self._decoded(record) for record in self.data.__getitems__(indices)]
        columns = self._values(indices)
        scalars = [[_scalar(value, self.kinds[name]) for value in values] for name, values in columns.items()]
        return [dict(zip(columns, row, strict=True)) for row in zip(*scalars, strict=True)]

    def read_columns(self, indices) -> dict[str, np.ndarray]:
        """Return the records at `indices` [m] as {field: [m, ...]}; without a record for each, which is faster."""
        if not self._plain():
            return records.columns(self, indices)
        columns = self._values([int(i) for i in indices])
        text = [name for name, values in columns.items() if self.kinds[name] is str or None in values]
        return {
            name: records.column([_scalar(value, self.kinds[name]) for value in values], name=name)
            if name in text else np.array(values, self.kinds[name])
            for name, values in columns.items()
        }  # fmt: skip

    def _plain(self) -> bool:
        """Return whether all fields are single numbers and texts, which TFDS decodes one by one, in 20 us each."""
        kinds = self.kinds.values()
        return hasattr(type(self.data.data_source), "__getitems__") and None not in kinds and np.uint64 not in kinds

    def _values(self, indices) -> dict[str, list]:
        """Return {field: values} of plain records, from the protocol buffers themselves; a missing value is None."""
        from tensorflow_datasets.proto import tf_example_pb2

        parse, columns = tf_example_pb2.Example.FromString, {name: [] for name in self.kinds}
        places = [(name, _place(kind), columns[name].append) for name, kind in self.kinds.items()]
        for record in self.data.data_source.__getitems__(indices) if indices else ():
            features = parse(record).features.feature
            for name, place, add in places:
                add(getattr(features[name], place).value[0] if name in features else None)
        return columns

    @property
    def classes(self):
        """The class names of the field `label`, or None."""
        names = getattr(dict(self.info.features.items()).get("label"), "names", None)
        return tuple(names) if names else None

    def kept_file(self):
        """Return the file in which `in_memory` caches decoded columns, or None if it must not cache.

        None applies to TFDS's mock, whose records are random, and to data that is not in a local folder (gs://).
        """
        real, folder = hasattr(type(self.data.data_source), "__getitems__"), self.info.data_dir
        return kept_file(folder, str(self.data.split)) if real and os.path.isdir(folder) else None

    def _decoded(self, record):
        return {name: _scalar(record[name], kind) for name, kind in self.kinds.items()}


def _place(kind) -> str:
    """Return the field of a protocol buffer that has the values of a kind."""
    return "bytes_list" if kind is str else "float_list" if issubclass(kind, np.floating) else "int64_list"


def _scalar(value, kind):
    """Convert a text or number: without TensorFlow, TFDS returns bytes, and numbers of 64 bits."""
    if kind is None or value is None:
        return value
    return value.decode() if isinstance(value, bytes) else kind(value)


def tfds_source(name_or_builder, split, *, data_dir=None) -> TfdsSource:
    """Open a split of a TFDS data set with random access; download and prepare it if necessary.

    `name_or_builder` is one of the project's data sets (digits, fashion_mnist, glyphs, stdlib_text), any TFDS name
    ("cifar10", "name/config:1.0"), or a builder. `split` may be a slice such as "train[:10%]", or one instruction of
    TFDS, such as tfds.core.ReadInstruction(...) or an element of tfds.even_splits(...). `data_dir` is by default
    $TFDS_DATA_DIR, or ~/tensorflow_datasets. Records are dicts of the data set's features; texts are decoded from
    UTF-8. A killed or concurrent preparation never leaves partial data under the final name.

    Raises UserError for an unknown name or split, for a split without records, and if the data set cannot be prepared
    or read on this machine. Image builders of TFDS need TensorFlow for preparation (not for reading), and the files
    must be array_record.
    """
    builder = prepared(name_or_builder, data_dir=data_dir)
    if isinstance(split, list | tuple | dict):
        raise UserError(f"split={split!r}; expected one split, such as 'train[:10%]'. Open each of several by itself.")
    base = re.match(r"\w*", split).group() if isinstance(split, str) else None
    # A mocked builder has no splits and accepts any name.
    if base is not None and builder.info.splits and base not in builder.info.splits and base != "all":
        raise unknown(f"split of {builder.info.full_name}", split, builder.info.splits)
    try:
        with quiet():
            data = builder.as_data_source(split)
    except (NotImplementedError, ValueError) as error:
        form = builder.info.file_format.value
        if isinstance(error, NotImplementedError) and form != "array_record":
            raise UserError(
                f"{builder.info.full_name} in {str(builder.data_path)!r} was prepared as {form}, "
                "which has no random access; prepare it as array_record in another data_dir."
            ) from error
        raise UserError(f"the split {split!r} of {builder.info.full_name}: {error}") from error
    try:
        count = len(data)
    except ValueError:  # the end of a slice before its beginning gives a negative length
        count = 0
    if not count:
        raise UserError(f"the split {split!r} of {builder.info.full_name} has no records.")
    kinds = {name: _kind(feature) for name, feature in builder.info.features.items()}
    return TfdsSource(data, builder.info, kinds)


def _kind(feature):
    if type(feature).__name__ not in ("Scalar", "Text"):
        return None
    dtype = np.dtype(feature.np_dtype)
    return str if dtype.kind in "OSU" else dtype.type


def prepared(name_or_builder, *, data_dir=None, **options):
    """Return the TFDS builder after preparing its data on disk. Raises UserError as `tfds_source` does.

    `options` are passed to a builder of this project.
    """
    # Trap: a builder whose preparation failed keeps its state, thus create a new one each time.
    make = lambda: make_builder(name_or_builder, data_dir=data_dir, **options)
    builder = make()
    if builder.data_path.exists():
        return builder
    import requests

    ours = type(builder).__module__.startswith("research.")
    try:
        with quiet(progress=not ours), _failing_fast():
            builder.download_and_prepare()
    except UserError:
        raise
    except requests.ConnectionError as error:
        reason = str(getattr(error.args[0], "reason", error)).rpartition(": ")[2]
        raise UserError(
            f"{builder.info.full_name} is not in {str(builder.data_path)!r}, and {urlsplit(error.request.url).netloc} "
            f"cannot be reached to download it: {reason}. On a machine with a connection, prepare it with "
            f"`python -m research prepare {builder.name} --out FOLDER`, and copy FOLDER/{builder.info.full_name} there."
        ) from error
    except ModuleNotFoundError as error:
        raise UserError(
            f"preparing (not reading) {builder.info.full_name} needs {error.name!r}, which is not installed. Install "
            f"it, or prepare elsewhere with file_format='array_record' and copy the data to {str(builder.data_path)!r}."
        ) from error
    except Exception as error:
        # Another process may have finished first: its rename succeeds and this one fails.
        if not make().data_path.exists():
            raise UserError(
                f"{builder.info.full_name} cannot be prepared in {str(builder.data_path)!r}: "
                f"{type(error).__name__}: {error}"
            ) from error
        builder = make()
    return builder


def make_builder(name_or_builder, *, data_dir=None, **options):
    """Return the TFDS builder of a name without preparing it; a builder is returned unchanged.

    Raises UserError for unknown names.
    """
    import tensorflow_datasets as tfds

    if not isinstance(name_or_builder, str):
        return name_or_builder
    # Trap: TFDS reads TFDS_DATA_DIR only when it is imported, thus read it here.
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
            raise UserError(f"unknown data set {name_or_builder!r}.{hint} Built in: {', '.join(MODULES)}.") from None
        except ModuleNotFoundError as error:
            raise UserError(
                f"the data set {name_or_builder!r} needs {error.name or 'TensorFlow'}, which is not installed. Install "
                "it, or prepare the data elsewhere with file_format='array_record' and pass "
                "tfds.builder_from_directory(FOLDER) here."
            ) from error
        except (ValueError, AssertionError) as error:
            raise UserError(f"the data set {name_or_builder!r} cannot be opened: {error}") from error


@contextlib.contextmanager
def quiet(*, progress: bool = True):
    """Silence harmless warnings of TFDS; without `progress`, also its progress bars and messages.

    It also works around two traps. TFDS names its temporary folder with Python's global random generator, thus two
    processes with the same seed would write to the same folder: the generator is reseeded, and its state restored at
    the end. TFDS leaves temporary folders behind: they are created in a folder that is removed at the end.
    """
    from absl import logging as absl_logging

    level, random_state, temporary = absl_logging.get_verbosity(), random.getstate(), tempfile.tempdir
    absl_logging.set_verbosity(absl_logging.ERROR)
    random.seed()
    try:
        with contextlib.nullcontext() if progress else _silent(), tempfile.TemporaryDirectory() as tempfile.tempdir:
            yield
    finally:
        tempfile.tempdir = temporary
        absl_logging.set_verbosity(level)
        random.setstate(random_state)


@contextlib.contextmanager
def _failing_fast():
    """Limit the retries of downloads to about a second, without warnings, and remove the unfinished ones.

    TFDS retries ten times with growing pauses, which takes minutes on a machine without a connection.
    """
    from tensorflow_datasets.core.download import downloader

    folders, download, retries = [], downloader._Downloader.download, downloader.MAX_RETRIES
    logger = logging.getLogger("urllib3")
    level = logger.level

    def recorded(self, url, folder, *options, **more):
        folders.append(folder)
        return download(self, url, folder, *options, **more)

    logger.setLevel(logging.ERROR)
    downloader._Downloader.download, downloader.MAX_RETRIES = recorded, 3
    try:
        yield
    finally:
        downloader._Downloader.download, downloader.MAX_RETRIES = download, retries
        logger.setLevel(level)
        for folder in folders:  # TFDS removes those that are complete
            shutil.rmtree(folder, ignore_errors=True)


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
