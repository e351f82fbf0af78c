"""Content fingerprints of data sets, by which a restarted run notices that its data have changed.

A fingerprint is a dict that JSON can hold:

    records     the number of records
    read        the number of records that were read: all, or SAMPLED evenly spaced ones
    fields      {field: hash of its values in their order, with their dtype and shape}
    unordered   a hash of the records that does not depend on their order

Data in memory, and other data of up to WHOLE bytes, are read whole. A data set that knows its content better has a
method `content_fingerprint()`.
"""

import functools
import hashlib
import re
from collections.abc import Iterable, Mapping

import numpy as np

from research.data.readers import records
from research.data.sampling.source import data_sets

FIRST_BATCH = "train, first batch"
WHOLE = 2**25  # 32 MiB, which even a slow reader decodes in about a second
SAMPLED = 256
CHUNK = 4096
MAX_FIELDS = 100  # with more fields, a fingerprint has one hash for all

hasher = functools.partial(hashlib.blake2b, digest_size=8)  # of all content hashes


def source_fingerprints(source, evals: Mapping, *, seed: int) -> dict[str, dict]:
    """Return the fingerprints of everything that a run reads: {"train": ..., "train/PART": ..., evaluation: ...}.

    `evals` has the EvaluationSource of each evaluation. "train, first batch" is the batch of step 0: it also depends on
    the functions between data and model, and on the seed. A source without a data set has its first batch only.
    """
    found = {f"train{part and '/'}{part}": fingerprint(data) for part, data in data_sets(source).items()}
    found[FIRST_BATCH] = fingerprint([source(seed)(0)])
    for name, evaluation in evals.items():
        parts = data_sets(evaluation) or {"first batch": [evaluation(0)]}
        found |= {f"{name}{part and '/'}{part}": fingerprint(data) for part, data in parts.items()}
    return found


def fingerprint(data) -> dict:
    """Return the fingerprint of a data set. Raises UserError for records that are not dicts of equal fields."""
    return data.content_fingerprint() if hasattr(data, "content_fingerprint") else of_records(data)


def of_records(data) -> dict:
    """Return the fingerprint of a data set from its records."""
    count, in_columns = len(data), hasattr(data, "take_columns")
    whole = in_columns or count * _bytes(records.records(data, [0])[0]) <= WHOLE
    indices = np.arange(count) if whole else spaced(count)
    hashes, unordered = {}, 0
    for start in range(0, len(indices), CHUNK):
        chunk = indices[start : start + CHUNK]
        if in_columns:
            columns = records.columns(data, chunk)
        else:
            rows = records.checked(records.records(data, chunk), chunk)
            columns = {name: records.objects([row[name] for row in rows]) for name in rows[0]}
        combined = np.zeros(len(chunk), np.uint64)
        for name in sorted(columns):
            kind = f"{name} {columns[name].dtype.str} {columns[name].shape[1:]}".encode()
            values = hash_rows(columns[name])
            hashes.setdefault(name, hasher(kind)).update(values.tobytes())
            combined = mix(combined + (values ^ np.frombuffer(hasher(kind).digest(), np.uint64)))
        unordered += int(combined.sum(dtype=np.uint64))
    fields = {name: value.hexdigest() for name, value in hashes.items()}
    if len(fields) > MAX_FIELDS:
        fields = {f"{len(fields)} fields": combine(fields.items())}
    return {"records": count, "read": len(indices), "fields": fields, "unordered": f"{unordered % 2**64:016x}"}


def spaced(count: int) -> np.ndarray:
    """Return at most SAMPLED evenly spaced indices of `count` records, i64, from the first to the last."""
    return np.unique(np.linspace(0, count - 1, min(count, SAMPLED)).astype(np.int64))


def combine(parts: Iterable) -> str:
    """Return a hash of values in their order, which may be strings, numbers and tuples or dicts of them."""
    return hasher(repr(list(parts)).encode("utf-8", "surrogatepass")).hexdigest()


def data_changes(was: Mapping[str, dict], now: Mapping[str, dict]) -> dict[str, str]:
    """Return {name: description of the change} of the data that differ between two results of `source_fingerprints`."""
    changes = {name: _change(was.get(name), now.get(name)) for name in {**was, **now}}
    return {name: change for name, change in changes.items() if change}


def _change(was, now):
    if was is None or now is None:
        return "is new" if was is None else "is missing"
    if was["records"] != now["records"]:
        return f"has {now['records']} records instead of {was['records']}"
    old, new = was["fields"], now["fields"]
    if old.keys() != new.keys():
        return f"has the fields {', '.join(new)} instead of {', '.join(old)}"
    changed = [name for name in old if old[name] != new[name]]
    if changed and was["unordered"] == now["unordered"]:
        return "has its records in another order"
    return f"has other values of {', '.join(map(repr, changed))}" if changed else ""


def _bytes(record) -> int:
    if isinstance(record, Mapping):
        return sum(map(_bytes, record.values()))
    return len(record) if isinstance(record, str | bytes) else np.asarray(record).nbytes


def hash_rows(column: np.ndarray) -> np.ndarray:
    """Return one hash per row, u64 [n]. Any change of one 64-bit word of a row changes its hash."""
    if column.dtype.hasobject or column.dtype.kind in "SU":
        hashes = b"".join(hasher(value_bytes(value)).digest() for value in column)
        return np.frombuffer(hashes, "<u8").astype(np.uint64)
    size = column.dtype.itemsize * int(np.prod(column.shape[1:]))
    data = np.frombuffer(column.tobytes(), np.uint8).reshape(len(column), size)
    words = np.pad(data, ((0, 0), (0, -size % 8))).view(np.uint64)
    # Odd weights: the product with a difference that is not 0 is not 0 either.
    return words @ (mix(np.arange(1, words.shape[1] + 1, dtype=np.uint64)) | np.uint64(1))


def mix(x: np.ndarray) -> np.ndarray:
    """Spread every bit of u64 words over the others (the finalizer of MurmurHash3, Appleby 2011)."""
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        x = (x ^ (x >> np.uint64(33))) * np.uint64(factor)
    return x ^ (x >> np.uint64(33))


def value_bytes(value) -> bytes:
    """Return bytes that identify a value or a record, whatever the order of its fields."""
    match value:
        case str():
            return b"s" + value.encode("utf-8", "surrogatepass")
        case bytes():
            return b"b" + value
        case Mapping():
            return b"".join(value_bytes(key) + value_bytes(value[key]) for key in sorted(value))
    try:
        array = np.asarray(value)
    except ValueError:  # a list of lists of different lengths
        array = records.objects([value])
    if array.dtype.hasobject:
        return re.sub(r" at 0x\w+", "", repr(value)).encode()  # an address differs from process to process
    return f"{array.dtype.str} {array.shape} ".encode() + array.tobytes()
