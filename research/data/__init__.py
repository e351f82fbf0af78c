"""Data: read records on the host, and form batches of numbers. A batch is a pure function of (seed, step, rows).

A data set is any object with `len(data)` and `data[i] -> dict` of numpy arrays, numbers and strings. Lists, TFDS data
sources and map-style data sets of Hugging Face, torch or Grain qualify. A pandas, polars or pyarrow table is read into
memory. The package provides

    arrays(**columns)                          in memory, one array per field
    image_folder(path, size=None, ...)         one sub-folder per class; image_files(path): without labels
    table(path_or_frame, target=None, ...)     CSV, Parquet, Excel, SQL, pandas, Polars, Arrow, with a schema
    jsonl(path, label=None)                    JSON objects, also with lists
    open_path(path)                            any of these, detected from the path
    tfds_source(name_or_builder, split)        TFDS without TensorFlow, and the sets of `research.data.packaged`
    indexed(path)                              the output of `prepare`
    digits()   fashion_mnist(split)   glyphs()   stdlib_text(split)
    subset(data, indices)   mapped(data, fn)   in_memory(data)   labelled(data, name)
    corrected(data, path)                      with the corrections of labels that `labels apply` recorded
    column(data, name)   field_names(data)   class_names(data)         "label" is column(data, "label")
    pack(documents, length)   pack_whole(documents, length)     fields tokens, segments, positions

A table becomes features by a preparation that is fitted on training rows and stays with the run. Its steps are in
`research.data.clean` (missing values, outliers) and `research.data.features` (scaling, categories, dates, selection):

    prepare = fit(train, missing.median(), scale.standard(), encode.one_hot())      a Preparation
    prepare(test)                              records of "features" [features] and "label" or "target"

Optional methods make reading faster: `take_columns(indices) -> dict` of stacked arrays, or `__getitems__(indices)`, a
list of dicts. A data set with a field `label` may name its classes in `classes`. A run records the fingerprint of its
data (`research.data.fingerprint`); a data set may compute its own in `content_fingerprint()`.

A run reads a Source, `step -> batch`, built from a data set:

    batches(data, size, augment=None, shuffle=True)(seed)(step)      training: every example once per epoch
    mixture({name: data}, size, weights={name: w}, ...)(seed)(step)  training: several data sets, weighted
    eval_batches(data, size)(i)                                      evaluation: in order, padded, with a mask

More Sources are in `research.data.sampling`: `paired` (labelled with unlabelled examples), `poisson` (private
training), `clients.rounds` (federated learning), `few_shot` (tasks) and `sequence.in_sequence` (consecutive data sets).

Every Source accepts `rows=`, the rows of the global batch that this process holds, and reads only those. `batches(...)`
and `mixture(...)` have `size` and `examples`; `eval_batches(...)` also has `len()` and `data`. A batch contains numbers
only; string fields are dropped. `prefetch` reads batches ahead of the step in a thread. `stratified`, `shuffled`,
`grouped`, `chronological`, `folds`, `nested_folds` and `time_folds` split a data set. `prepare` downloads or converts a
data set once; `research.data.engines` maps data that do not fit in memory, and cuts streams. `research.data.balance`
resamples training rows; `research.data.labels` combines raters and rules, chooses the records to label next, and
corrects labels; `research.data.annotations` reads and writes annotation files.

Importing this package does not import tensorflow_datasets, scikit-learn, pyarrow or Pillow.
"""

# These functions intentionally shadow submodules of the same name: `from research.data import batches` is the function,
# while `from research.data.sampling.batches import Batches` still imports from the module.
from research.data.fitting import fit
from research.data.labels.corrections import Corrected, corrected
from research.data.preparation import Preparation
from research.data.readers.arrays import (
    Arrays,
    arrays,
    class_names,
    column,
    field_names,
    in_memory,
    labelled,
    mapped,
    subset,
)
from research.data.readers.images import image_files, image_folder
from research.data.readers.indexed import Indexed, indexed, write
from research.data.readers.jsonl import jsonl
from research.data.readers.open import open_path
from research.data.readers.prepare import Prepared, prepare
from research.data.readers.table import Table, table
from research.data.readers.tfds import tfds_source
from research.data.sampling.batches import Batches, EvalBatches, batches, eval_batches
from research.data.sampling.mixture import Mixture, mixture
from research.data.sampling.prefetch import prefetch
from research.data.sampling.source import generated
from research.data.sampling.splits import chronological, folds, grouped, nested_folds, shuffled, stratified, time_folds
from research.data.schema import Column
from research.data.sets import digits, fashion_mnist, glyphs, stdlib_text
from research.data.text.pack import pack, pack_whole

__all__ = [
    "Arrays",
    "Batches",
    "Column",
    "Corrected",
    "Indexed",
    "Mixture",
    "Preparation",
    "Prepared",
    "Table",
    "EvalBatches",
    "arrays",
    "batches",
    "chronological",
    "grouped",
    "nested_folds",
    "time_folds",
    "class_names",
    "column",
    "corrected",
    "digits",
    "fashion_mnist",
    "field_names",
    "fit",
    "folds",
    "generated",
    "glyphs",
    "image_files",
    "image_folder",
    "in_memory",
    "indexed",
    "jsonl",
    "labelled",
    "mapped",
    "mixture",
    "open_path",
    "pack",
    "pack_whole",
    "prefetch",
    "prepare",
    "shuffled",
    "stdlib_text",
    "stratified",
    "subset",
    "table",
    "eval_batches",
    "tfds_source",
    "write",
]
