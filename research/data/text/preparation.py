"""A fitted preparation of texts: from raw texts to numbers, with the vocabulary or tokenizer of the training rows.

    prepare = fit_text(train, bag(ngrams=(1, 2), least=2), cleaning=Cleaning(lower=True))
    source = batches(prepare(train), 64)
    test = eval_batches(prepare(test), 64)

`Experiment(preparation=prepare)` saves it with the run, as `text.json`, `text.npz` and the file of the tokenizer. A run
that is opened again gets it from there and fits nothing (`research.data.stored`).
"""

import dataclasses
import json
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from research.data import schema as schemas
from research.data.fitted_files import load_fitted, save_fitted
from research.data.readers import table_files
from research.data.readers.arrays import Arrays, Subset, class_names, in_memory
from research.data.readers.cells import strings
from research.data.readers.table import Table
from research.data.stored import stored
from research.data.text.bag import Bag, Encoded, TextStep, described
from research.data.text.clean import Cleaning, text_of
from research.data.text.tokens import Tokens
from research.errors import UserError, unknown

NAME = "text"  # of the files in a run folder
ENCODERS = {"bag": Bag, "tokens": Tokens}


@dataclasses.dataclass(frozen=True, eq=False)
class TextPreparation:
    """A fitted encoding of one field of text; created by `fit_text`.

    encoder: the fitted Bag or Tokens
    cleaning: what is done to a text first
    text: the name of the field
    rows: the number of records of the table, or of the training set without one
    made_of: the encoding as given, to recognise it
    schema, target, reading: those of the table that the records come from; empty without one
    """

    encoder: Bag | Tokens
    cleaning: Cleaning
    text: str
    rows: int
    made_of: str
    schema: schemas.Schema
    target: str | None
    reading: Mapping[str, Any]
    names: tuple[str, ...] = ()  # texts have no named features
    without: tuple[str, ...] = ()  # and leave no column out

    def __repr__(self):
        kind = type(self.encoder).__name__.lower()
        return f"TextPreparation({kind} of {self.vocabulary:,} ids)"

    @property
    def vocabulary(self) -> int:
        """The number of ids."""
        return self.encoder.vocabulary

    def encoded(self, texts) -> Encoded:
        """Return the fields of n texts, and the numbers of their unknown and omitted units."""
        return self.encoder.encode(texts, cleaning=self.cleaning)

    def __call__(self, data) -> Arrays:
        """Return the records of a data set with the fields of the encoding added.

        Raises UserError if the records have no such text, or a field of the encoding already, and for invalid UTF-8.
        """
        return self._records(data)[0]

    def _records(self, data):
        rows = in_memory(data).columns  # of a table that is absent, the texts are empty
        if self.text not in rows:
            raise unknown("field of text", self.text, rows)
        made = self.encoded([text_of(value, record=i) for i, value in enumerate(rows[self.text])])
        if taken := set(made.fields) & set(rows):
            raise UserError(f"the records have the field {min(taken)!r}, which the encoding makes; rename it.")
        return Arrays({**rows, **made.fields}, class_names(data)), made

    def record(self, record: Mapping) -> dict:
        """Return one record encoded, for an `augment` of `batches` that changes its text first."""
        made = self.encoded([text_of(record[self.text])])
        return {**record, **{name: values[0] for name, values in made.fields.items()}}

    def read(self, path) -> Arrays:
        """Return the records of a file of a table or of JSON lines, with strings; `label` becomes `given label`.

        A warning states how many words or tokens are unknown or were omitted, and how many texts are empty.
        """
        columns = table_files.read_file(path, **table_files.options_for(path, self.reading))
        if self.text not in columns:
            raise unknown(f"column of text in {path}", self.text, columns)
        fields = {"given label" if name == "label" else name: strings(x) for name, x in columns.items()}
        found, made = self._records(Arrays(fields))
        if text := report(made):
            warnings.warn(f"{path}: {text}", stacklevel=2)
        return found

    def save(self, folder):
        """Write `text.json`, `text.npz` and the file of the tokenizer into a folder: no code."""
        values, arrays = self.encoder.saved()
        if isinstance(self.encoder, Tokens):
            self.encoder.tokenizer.save(folder)
        plain = {name: getattr(self, name) for name in ("text", "rows", "made_of", "target", "reading")}
        kind = next(name for name, cls in ENCODERS.items() if isinstance(self.encoder, cls))
        about = {"kind": kind, "encoder": values, "cleaning": self.cleaning, **plain}
        save_fitted(folder, NAME, {**about, "schema": schemas.to_json(self.schema)}, arrays=arrays)


def fit_text(train, encoding: TextStep, *, text: str = "text", cleaning: Cleaning = Cleaning()) -> TextPreparation:
    """Fit an encoding on the texts of training rows, and return the TextPreparation.

    train: a data set with a field of text, as strings, bytes or u8 arrays of UTF-8
    encoding: `bag(...)` or `tokens(...)`
    text: the field
    cleaning: what is done to each text first

    While a run is opened again, the result is the TextPreparation that was saved with it.
    Raises UserError for a missing field, for texts without any term, and for invalid UTF-8.
    """
    if not isinstance(encoding, TextStep):
        raise UserError(f"fit_text() got {encoding!r}; expected bag(...) or tokens(...).")
    made_of = json.dumps([described(encoding), text, cleaning])
    kept = stored.get()
    if kept is not None and kept.preparation.made_of == made_of:
        return kept.preparation
    below = train
    while isinstance(below, Subset):
        below = below.data
    rows = in_memory(train).columns
    if text not in rows:
        raise unknown("field of text", text, rows)
    texts = [text_of(value, record=i) for i, value in enumerate(rows[text])]
    encoder = encoding.fit(texts, cleaning)
    schema, target, reading = (
        (below.schema, below.target, below.reading) if isinstance(below, Table) else ({}, None, {})
    )
    count = len(below) if isinstance(below, Table) else len(texts)
    return TextPreparation(encoder, cleaning, text, count, made_of, schema, target, reading)


def report(made: Encoded) -> str:
    """Return a sentence on empty texts and on unknown and omitted units; "" if there are none."""
    parts = []
    for count, words in ((made.unknown, "are not in the vocabulary"), (made.cut, "were left out of texts too long")):
        if total := int(count.sum()):
            share = total / max(int(made.units.sum()), 1)
            parts.append(f"{total:,} units ({share:.1%}) in {int((count > 0).sum()):,} records {words}")
    if empty := np.flatnonzero(made.units == 0).tolist():
        parts.append(f"{len(empty):,} texts are empty (the first is record {empty[0]})")
    return "; ".join(parts)


def load_text(folder) -> TextPreparation | None:
    """Read the preparation of texts that was saved in a folder; None if there is none. No code is executed.

    Raises UserError for a damaged or missing file.
    """
    files = load_fitted(folder, NAME)
    if files is None:
        return None
    about, arrays, path = files
    try:
        encoder = ENCODERS[about["kind"]].loaded(about["encoder"], arrays, folder)
        plain = {name: about[name] for name in ("text", "rows", "made_of", "target", "reading")}
        return TextPreparation(
            encoder, Cleaning(*about["cleaning"]), schema=schemas.from_json(about["schema"]), **plain
        )  # fmt: skip
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is damaged: {error!r}.") from error
