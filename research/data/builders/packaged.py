"""One TFDS builder for each data set of `research.data.packaged`, as an attribute of this module: `packaged.adult`."""

import functools
import pathlib

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from research.data.fingerprint import combine, of_records
from research.data.packaged import NAMES, packaged_set
from research.data.readers import records
from research.data.readers.arrays import of_columns
from research.data.readers.packages import package_files
from research.errors import UserError, unknown

DTYPES = {int: np.int32, float: np.float32, str: np.str_}


class Packaged(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """The splits and fields of a PackagedSet, in the order of its files.

    `source` is "package", "tfds" or "openml". All give the same records, because their content is compared with the
    pinned one, if there is one, before anything is written.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "As in the package."}
    pkg_dir_path = epath.Path(__file__).parent

    def __init__(self, *, source="package", **kwargs):
        self.set, self.source = packaged_set(self.name), source
        super().__init__(**kwargs)

    def _info(self):
        # A string may be missing, a number is NaN then.
        features = {
            name: tfds.features.Scalar(dtype=DTYPES[kind], optional=kind is str)
            for name, kind in self.set.fields.items()
        }
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.set.summary,
            homepage=self.set.homepage,
            license=self.set.licence,
            features=tfds.features.FeaturesDict(features),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        splits = {split: columns_of(self.set, rows) for split, rows in self._rows().items()}
        counts = {split: len(next(iter(columns.values()))) for split, columns in splits.items()}
        pinned = self.set.content
        if pinned and (counts != dict(self.set.examples) or content_of(splits) != pinned):
            raise UserError(
                f"{self.name} from {self.source} has {counts} records of the content {content_of(splits)}; expected "
                f"{dict(self.set.examples)} of {self.set.content}. They are not the records of this data set."
            )
        return {split: self._generate_examples(columns) for split, columns in splits.items()}

    def _generate_examples(self, columns):
        for i, values in enumerate(zip(*columns.values(), strict=True)):
            yield i, dict(zip(columns, values, strict=True))

    def _rows(self):
        if self.source == "package":
            cache = pathlib.Path(self._data_dir_root) / "downloads"
            return self.set.read(package_files(self.set.package, cache))
        sources = {"tfds": _from_tfds, "openml": _from_openml}
        if self.source not in sources:
            raise unknown("source", self.source, ["package", *sources])
        elsewhere = getattr(self.set, self.source)
        if elsewhere is None:
            available = [name for name in sources if getattr(self.set, name)]
            raise UserError(
                f"{self.name} cannot be read from {self.source}; expected {' or '.join(['package', *available])}."
            )
        return elsewhere.rows(sources[self.source](elsewhere.name))


def _from_tfds(name):
    # Here, because this reader imports the names of all builders.
    from research.data.readers.tfds import prepared, tfds_source

    splits = {split: tfds_source(name, split) for split in prepared(name).info.splits}
    return {split: records.records(source, range(len(source))) for split, source in splits.items()}


def _from_openml(number):
    """Return the rows of a data set of OpenML; categories are strings."""
    from sklearn.datasets import fetch_openml

    found = fetch_openml(data_id=number, as_frame=False, parser="liac-arff", target_column=None)
    columns = []
    for i, name in enumerate(found.feature_names):
        names = (found.categories or {}).get(name)
        values = found.data[:, i]
        columns.append([None if value != value else names[int(value)] for value in values] if names else values)
    return list(zip(*columns, strict=True))


def columns_of(described, rows) -> dict[str, np.ndarray]:
    """Return rows as {field: [n]} of the declared types. Raises UserError for a row or value that does not fit."""
    names = list(described.fields)
    rows = list(rows)
    for i, row in enumerate(rows):
        if len(row) != len(names):
            raise UserError(f"record {i} has {len(row)} values; expected {len(names)}: {', '.join(names)}.")
    cells = zip(*rows, strict=True) if rows else [()] * len(names)
    return {
        name: _column(name, kind, values, described.missing)
        for (name, kind), values in zip(described.fields.items(), cells, strict=True)
    }


def _column(name, kind, values, marker):
    missing = [value is None or value != value or value in ("", marker) for value in values]
    if kind is str:
        return records.objects([None if none else str(value) for value, none in zip(values, missing, strict=True)])
    try:
        numbers = np.array([np.nan if none else float(value) for value, none in zip(values, missing, strict=True)])
    except ValueError as error:
        raise UserError(f"the field {name!r}: {error}; expected numbers.") from error
    if kind is int and not ((np.abs(numbers) < 2**31) & (numbers % 1 == 0)).all():
        raise UserError(f"the field {name!r} has values that are missing or not i32; expected integers of 32 bits.")
    return numbers.astype(DTYPES[kind])


def content_of(splits) -> str:
    """Return the fingerprint of the records of all splits, {split: {field: [n]}}."""
    return combine([(split, of_records(of_columns(splits[split]))) for split in sorted(splits)])


@functools.cache
def __getattr__(name):
    if name not in NAMES:
        raise AttributeError(name)
    return type(name, (Packaged,), {"name": name, "__module__": __name__}, skip_registration=True)
