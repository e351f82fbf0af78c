"""The raw columns of a table, from Arrow columns and from cells of text.

A raw column is a numpy array [n] of one of four forms. The missing value of each is in brackets.

    int64 (none)     float64 (NaN)     object, strings ("")     datetime64[us], UTC or without a zone (NaT)
"""

import numpy as np

from research.data.readers.records import objects
from research.errors import UserError

MISSING = ("", "NA", "N/A", "NaN", "nan", "NULL", "null", "?")  # cells of text without a value
EXACT = 2**53  # integers below it are exact as f64
NUMBER = r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$"


def from_arrow(column, *, what: str) -> np.ndarray:
    """Convert an Arrow column to a raw column; `what` names it in messages.

    Booleans become 0 and 1. Integers with missing values become f64, or strings if f64 would change one of them.
    Raises UserError for a nested type.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_boolean(kind):
        column, kind = column.cast(pa.int8()), pa.int8()
    if pa.types.is_integer(kind):
        largest = max((abs(x) for x in pc.min_max(column).as_py().values() if x is not None), default=0)
        if largest >= EXACT if column.null_count else largest >= 2**63:
            return from_arrow(column.cast(pa.string()), what=what)
        return column.cast(pa.float64() if column.null_count else pa.int64()).to_numpy(zero_copy_only=False)
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        return np.array(column.cast(pa.float64()).to_numpy(zero_copy_only=False))
    if pa.types.is_temporal(kind) and not (pa.types.is_time(kind) or pa.types.is_duration(kind)):
        times = column.cast(pa.timestamp("us", tz=getattr(kind, "tz", None)), safe=False)
        return times.to_numpy(zero_copy_only=False).astype("datetime64[us]")
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return objects(pc.fill_null(column.cast(pa.large_string()), "").to_pylist())
    raise UserError(
        f"{what} is of type {kind}; expected numbers, strings, booleans, dates or times. Records with lists are read "
        "by jsonl(path)."
    )


def typed(cells, *, missing=MISSING, decimal: str = ".") -> np.ndarray:
    """Convert an Arrow column of text cells to a raw column, without the spaces around each cell.

    A column whose cells are all numbers becomes numbers. It stays strings if that would change one: leading zeros, as
    in a postal code, or an integer beyond 64 bits, or beyond 2^53 beside missing cells. Dates stay strings.
    """
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = pc.utf8_trim_whitespace(cells)
    cells = pc.if_else(pc.is_in(cells, value_set=pa.array(missing, pa.string())), pa.scalar(None, pa.string()), cells)
    numbers = pc.replace_substring(cells, decimal, ".") if decimal != "." else cells
    if pc.any(pc.starts_with(numbers, "+")).as_py():
        numbers = pc.replace_substring_regex(numbers, r"^\+(\d)", r"\1")
    for kind in (pa.int64(), pa.float64()):
        try:
            found = pc.cast(numbers, kind)
        except pa.ArrowInvalid:
            continue
        present = numbers.drop_null()
        # Trap: Arrow reads 0x1F and 007 as integers.
        changes = pc.any(pc.match_substring_regex(present, r"^-?0[\dxX]")).as_py()
        if kind == pa.float64():
            whole = pc.match_substring_regex(present, r"^-?\d+$")
            changes = changes or pc.any(pc.and_(whole, pc.greater_equal(pc.abs(found.drop_null()), EXACT))).as_py()
        return from_arrow(cells if changes else found, what="")
    return from_arrow(cells, what="")


def strings(values: np.ndarray) -> np.ndarray:
    """Return a raw column as strings: 3.0 becomes "3", a time its ISO form, and a missing value ""."""
    if values.dtype == object:
        return values
    if values.dtype.kind == "i":
        return values.astype(str).astype(object)
    if values.dtype.kind == "M":
        text = np.datetime_as_string(values).astype(object)
        return np.where(np.isnat(values), "", text)
    whole = np.isfinite(values) & (values == np.round(values)) & (np.abs(values) < EXACT)
    text = np.where(whole, np.where(whole, values, 0).astype(np.int64).astype(str), values.astype(str)).astype(object)
    return np.where(np.isnan(values), "", text)


def present(values: np.ndarray) -> np.ndarray:
    """Return a mask of the values of a raw column that are not missing."""
    if values.dtype == object:
        return values != ""
    return ~(np.isnat(values) if values.dtype.kind == "M" else np.isnan(values))
