"""Data: records on the host, in; batches of numbers, out. Everything is a pure function of a position.

A data set is anything with `len(data)` and `data[i] -> dict` of numpy arrays, numbers and strings: a list, a TFDS
data source, a torch or Grain map-style data set, or one of

    arrays(**columns)                          in memory, one array a field
    image_folder(path, size=None, ...)         a sub-folder is a class
    csv(path, label=None, ...)   jsonl(path)   tables
    open_path(path)                            any of these, by what lies there
    tfds_source(name_or_builder, split)        TFDS without TensorFlow
    indexed(path)                              what `prepare` wrote
    digits()   fashion_mnist(split)   glyphs()   stdlib_text(split)
    subset(data, indices)   mapped(data, fn)   in_memory(data)   column(data, name)
    pack(documents, length)   pack_whole(documents, length)     fields tokens, segments, positions

Two methods are used where a data set has them, because they are faster: `take(indices) -> dict` of stacked arrays,
else `__getitems__(indices) -> list of dicts`. A data set with a `label` may name its classes in `classes`.

What a run reads is a Source, `step -> batch`, made of a data set:

    batches(data, size, augment=None, shuffle=True)(seed)(step)     training: every example once an epoch
    mixture({name: data}, size, weights={name: w}, ...)(seed)(step) training: several data sets, in proportion
    eval_batches(data, size)(i)                                            evaluation: in order, padded, with a mask

Other Sources are in modules of their own: `paired` (unlabelled examples beside labelled ones), `poisson` (for private
training), `federated.rounds` (clients), `few_shot` (tasks) and `sequence.in_sequence` (one data set after another).

All of them take `rows=`, the rows of the global batch that this process holds; only those are read. `batches(...)`
and `mixture(...)` have `size` and `examples`; `eval_batches(...)` also has `len()` and `data`. A batch holds numbers
only: fields of strings stay behind. `prefetch` computes batches ahead of the step in a thread;
`stratified`, `shuffled` and `folds` split a data set; `prepare` makes ready whatever has to be made ready once.

Importing this package imports none of tensorflow_datasets, scikit-learn and Pillow.
"""

# The functions hide the submodules of the same name on purpose: `from research.data import batches` is the function,
# and `from research.data.sampling.batches import Batches` still finds the module.
from research.data.readers.arrays import Arrays, arrays, column, in_memory, mapped, subset
from research.data.readers.images import image_folder
from research.data.readers.indexed import Indexed, indexed, write
from research.data.readers.open import open_path
from research.data.readers.prepare import Prepared, prepare
from research.data.readers.tables import csv, jsonl
from research.data.readers.tfds import tfds_source
from research.data.sampling.batches import Batches, EvalBatches, batches, eval_batches
from research.data.sampling.mixture import Mixture, mixture
from research.data.sampling.prefetch import prefetch
from research.data.sampling.source import generated
from research.data.sampling.splits import folds, shuffled, stratified
from research.data.sets import digits, fashion_mnist, glyphs, stdlib_text
from research.data.text.pack import pack, pack_whole

__all__ = [
    "Arrays",
    "Batches",
    "Indexed",
    "Mixture",
    "Prepared",
    "EvalBatches",
    "arrays",
    "batches",
    "column",
    "csv",
    "digits",
    "fashion_mnist",
    "folds",
    "generated",
    "glyphs",
    "image_folder",
    "in_memory",
    "indexed",
    "jsonl",
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
    "eval_batches",
    "tfds_source",
    "write",
]
