"""Rows that occur twice: exact copies by hashes, near copies by distances, and near copies of texts by MinHash."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from research.data.fingerprint import hash_rows, mix
from research.data.readers.cells import strings

NEIGHBOURS = 5  # a near copy is compared with the fifth neighbour: up to four copies of a row do not hide each other
NEAR = 0.1  # the largest ratio of the two distances
BY_CHANCE = 0.001  # the number of near copies that is expected among rows without any
COLUMNS = 64  # the most columns that are left out, one after the other, to count coincidences
SHINGLE, BANDS, PER_BAND = 8, 12, 4  # bytes; with these bands, a similarity of 0.7 is found with probability 0.96
SIMILAR, SHORTEST, LONGEST = 0.7, 40, 20_000  # Jaccard similarity of a near copy; bytes of a text
TERMS, FACTORS = np.random.default_rng(0).integers(0, 2**63, (2, BANDS * PER_BAND), dtype=np.uint64)
FACTORS = 2 * FACTORS + np.uint64(1)


class Repeats(NamedTuple):
    """Rows that are equal to a row of a reference.

    `rows` [m] are the row numbers, ascending, and `originals` [m] the first equal row of the reference. `pairs` is the
    number of pairs of equal rows, and `by_chance` an estimate of the number that coincidences explain.
    """

    rows: np.ndarray
    originals: np.ndarray
    pairs: int
    by_chance: float


def repeated_rows(reference: Mapping[str, np.ndarray], rows: Mapping[str, np.ndarray] | None = None) -> Repeats:
    """Find the rows that are equal to a row of `reference` in all columns.

    Both are {name: [n, ...]} with the same names: raw columns, or arrays of numbers. Without `rows`, the rows of
    `reference` that equal an earlier one are found. Numbers are equal if they are equal as f32, and strings if they
    differ in case and spaces only. Two missing values are equal. Leave out identifiers, by which all rows differ.

    In a table of few values, rows are equal by chance. For a column with values v of probability p(v), rows that agree
    in all other columns agree in this one with probability c = sum of p(v)^2, and differ with 1 - c, if the column does
    not depend on the others. Pairs that differ in this column alone thus imply c / (1 - c) times as many equal pairs.
    `by_chance` is the largest of these estimates. A column with more distinct values than half the rows is not used.
    """
    sides = [hashed_columns(side) for side in (reference, *([rows] if rows is not None else []))]
    keys = [_total(side) for side in sides]
    first, at = np.unique(keys[0], return_index=True)
    if rows is None:
        originals = at[np.searchsorted(first, keys[0])]
        found = np.flatnonzero(originals != np.arange(len(originals)))
        originals = originals[found]
    else:
        place = np.searchsorted(first, keys[1]).clip(max=len(first) - 1)
        found = np.flatnonzero(first[place] == keys[1])
        originals = at[place[found]]
    pairs, by_chance = _pairs(*keys), 0.0
    for name in sorted(sides[0])[:: -(-len(sides[0]) // COLUMNS)] if pairs and len(sides[0]) > 1 else ():
        counts = np.unique(sides[0][name], return_counts=True)[1]
        if len(counts) > len(keys[0]) / 2 or len(counts) == 1:
            continue
        agree = float(np.sum((counts / counts.sum()) ** 2))
        others = _pairs(*(key - side[name] for key, side in zip(keys, sides, strict=True)))
        by_chance = max(by_chance, agree / (1 - agree) * (others - pairs))
    return Repeats(found, originals, pairs, by_chance)


def hashed_columns(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return a hash of the normalised value of each row, u64 [n], for every column [n, ...]; see `repeated_rows`."""
    hashed = {}
    for name, values in columns.items():
        values = np.asarray(values)
        if values.dtype.kind in "OSU":
            distinct, codes = _distinct(values)
            texts = np.array([" ".join(str(text).split()).casefold() for text in distinct] + [""], object)
            hashes = hash_rows(texts)[codes]
        else:
            if values.dtype.kind == "M":
                values = np.where(np.isnat(values), np.nan, values.astype("datetime64[us]").astype(np.float64))
            numbers = values.astype(np.float64)
            with np.errstate(over="ignore", invalid="ignore"):
                rounded = np.where(numbers == np.round(numbers), numbers, numbers.astype(np.float32)) + 0.0
            # Trap: `hash_rows` is linear, and small integers as f64 differ in few bits, so that sums of them collide.
            hashes = hash_rows(mix(np.where(np.isnan(rounded), np.nan, rounded).view(np.uint64)))
        hashed[name] = mix(hashes ^ hash_rows(np.array([name], object)))
    return hashed


def _distinct(values):
    """Return the distinct strings, and the place of each row's string among them, -1 if missing."""
    import pyarrow as pa

    encoded = pa.array(strings(values), pa.large_string(), from_pandas=True).dictionary_encode()
    return encoded.dictionary.to_pylist(), encoded.indices.fill_null(-1).to_numpy(zero_copy_only=False)


def _total(hashed):
    return sum(hashed.values(), start=np.zeros(len(next(iter(hashed.values()))), np.uint64))


def _pairs(keys, others=None) -> int:
    """Count the pairs of equal keys: of one of `keys` with one of `others`, or within `keys`."""
    values, counts = np.unique(keys, return_counts=True)
    if others is None:
        return int((counts * (counts - 1) // 2).sum())
    theirs, their_counts = np.unique(others, return_counts=True)
    _, mine, of_others = np.intersect1d(values, theirs, assume_unique=True, return_indices=True)
    return int((counts[mine] * their_counts[of_others]).sum())


def near_rows(reference: np.ndarray, rows: np.ndarray | None = None) -> list[tuple[int, int]]:
    """Return the pairs (row, reference row) of near copies by Euclidean distance, exact copies included.

    Both are finite and of comparable scale, [n, features]. Without `rows`, pairs within `reference` are found, each
    once. A row is a near copy if its distance to the nearest reference row is a small fraction of that to the fifth.
    Among rows of locally constant density in d dimensions, this ratio is below t with probability 1 - (1 - t^d)^4
    (Facco et al. 2017, eq. 3). The limit is 0.1, or lower if more than 0.001 of the rows would be expected to be below
    it. The median ratio of the first two distances of the reference rows estimates d. The density may thus vary, and
    data of few dimensions, in which small distances are common, have a lower limit. Above 64 features, distances are
    those of 64 random projections (Johnson & Lindenstrauss 1984; accurate to about 10 %). Fewer than 20 reference rows
    give no pairs.
    """
    from sklearn.neighbors import NearestNeighbors

    if len(reference) < 20:
        return []
    sides = [np.asarray(x, np.float32) for x in (reference, reference if rows is None else rows)]
    if sides[0].shape[1] > 64:
        project = np.random.default_rng(0).normal(size=(sides[0].shape[1], 64)).astype(np.float32)
        sides = [x @ project for x in sides]
    search = NearestNeighbors(n_neighbors=NEIGHBOURS, algorithm="brute").fit(sides[0])
    own, own_rows = search.kneighbors()  # a row is not its own neighbour
    distances, neighbours = (own, own_rows) if rows is None else search.kneighbors(sides[1])
    apart = own[:, 0] > 0
    ratio = np.median(own[apart, 1] / own[apart, 0]) if apart.any() else 1.0
    dimensions = np.log(2) / np.log(ratio) if ratio > 1 else np.inf
    chance = 1 - (1 - min(BY_CHANCE / len(distances), 1)) ** (1 / (NEIGHBOURS - 1))
    limit = min(NEAR, chance ** (1 / dimensions))
    found = np.flatnonzero((distances[:, 0] < limit * distances[:, -1]) | (distances[:, 0] == 0))
    pairs = [(int(row), int(neighbours[row, 0])) for row in found]
    return sorted({(min(pair), max(pair)) for pair in pairs}) if rows is None else pairs


def near_texts(reference: Sequence[str], texts: Sequence[str] | None = None) -> list[tuple[int, int]]:
    """Return the pairs (text, reference text) with a Jaccard similarity of at least 0.7, the most similar of each text.

    The similarity is that of the sets of 8 consecutive bytes, in lower case and with single spaces. Without `texts`,
    pairs within `reference` are found, each once. Candidates agree in one of 12 bands of 4 minimal hashes (MinHash:
    Broder 1997; bands: Indyk & Motwani 1998). Texts below 40 bytes are left out, because short ones are often similar;
    of long ones, the first 20,000 bytes are compared.
    """
    of_reference = [_shingles(text) for text in reference]
    of_texts = of_reference if texts is None else [_shingles(text) for text in texts]
    buckets: dict[tuple, list[int]] = {}
    for row, shingles in enumerate(of_reference):
        for band in _bands(shingles):
            buckets.setdefault(band, []).append(row)
    found = []
    for row, shingles in enumerate(of_texts):
        candidates = {other for band in _bands(shingles) for other in buckets.get(band, ())[:100]}
        candidates = [other for other in candidates if texts is not None or other < row]
        similar = [(_jaccard(shingles, of_reference[other]), -other) for other in candidates]
        best, other = max(similar, default=(0.0, 0))
        if best >= SIMILAR:
            found.append((row, -other))
    return sorted((other, row) for row, other in found) if texts is None else found


def _shingles(text) -> np.ndarray:
    """Return the distinct stretches of SHINGLE bytes as u64 words; none of a short text."""
    data = " ".join(str(text).split()).casefold().encode("utf-8", "surrogatepass")[:LONGEST]
    if len(data) < SHORTEST:
        return np.zeros(0, np.uint64)
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(data, np.uint8), SHINGLE)
    return np.unique(mix(np.ascontiguousarray(windows).view(np.uint64)[:, 0]))


def _bands(shingles) -> list[tuple]:
    """Return the bands of a text: (number of the band, minimal hashes), hashed by multiplication and addition."""
    if not len(shingles):
        return []
    smallest = np.min(shingles[:, None] * FACTORS + TERMS, 0).reshape(BANDS, PER_BAND)
    return [(band, *values) for band, values in enumerate(smallest.tolist())]


def _jaccard(a, b) -> float:
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / max(1, len(a) + len(b) - both)
