"""Strings as dates: their form, and their values."""

import re

import numpy as np

from research.data.readers.cells import strings
from research.errors import UserError

DATE_FORMS = (
    "", "%Y-%m-%d %H:%M", "%Y/%m/%d", "%Y/%m/%d %H:%M", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M",
    "%d.%m.%Y", "%d.%m.%Y %H:%M", "%d-%m-%Y", "%m-%d-%Y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y", "%d-%b-%Y",
)  # fmt: skip


def date_form(name, values, rows) -> str | None:
    """Return the form of strings that are all dates, or None; `rows` [n] are their numbers in messages.

    Raises UserError if several forms give other dates, and if most strings are dates of one form, but not all.
    """
    first = values[:200]
    if np.mean([bool(re.search(r"\d{4}", text) and re.search(r"\D", text)) for text in first]) < 0.5:
        return None
    shares = {form: 1 - dates(first, form)[1].mean() for form in DATE_FORMS}
    likely = {form: dates(values, form) for form, share in shares.items() if share > 0.5}
    found = [form for form, (_, wrong) in likely.items() if not wrong.any()]
    for form in found[1:]:
        if not np.array_equal(likely[found[0]][0], likely[form][0]):
            raise UserError(
                f"the dates of the column {name!r}, such as {values[0]!r}, could be {found[0]!r} or {form!r}. State "
                f"the form: schema={{{name!r}: Column('date', form={form!r})}}."
            )
    if likely and not found:
        form = max(likely, key=shares.get)
        at = int(np.argmax(likely[form][1]))
        raise UserError(
            f"the column {name!r} has dates of the form {form or 'ISO 8601'!r}, and {values[at]!r} in row {rows[at]}. "
            f"Write all in one form, or state another kind: schema={{{name!r}: 'text'}}."
        )
    return found[0] if found else None


def dates(values: np.ndarray, form: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a raw column as times, datetime64[us] [n], and a mask of the values that are none in this form."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if values.dtype.kind == "M":
        return values, np.zeros(len(values), bool)
    text = strings(values)
    cells = pa.array(np.where(text == "", None, text), pa.string())
    if form:
        parsed = pc.strptime(cells, format=form, unit="us", error_is_null=True)
        # Trap: strptime takes the 31st of April for the 1st of May, and a year "24" for the year 24.
        parts = {"%d": r"(?P<day>\d{1,2})", "%Y": r"\d{4}"}
        pattern = re.sub("%[a-zA-Z]", lambda part: parts.get(part[0], r"\w+"), form.replace(".", r"\."))
        right = pc.match_substring_regex(cells, f"^{pattern}$")
        if "%d" in form:
            days = pc.cast(pc.struct_field(pc.extract_regex(cells, f"^{pattern}$"), "day"), pa.int64())
            right = pc.and_(right, pc.equal(days, pc.day(parsed)))
        parsed = pc.if_else(pc.fill_null(right, False), parsed, pa.scalar(None, parsed.type))
    else:
        parsed = _iso(cells)
    times = parsed.to_numpy(zero_copy_only=False).astype("datetime64[us]")
    return times, np.isnat(times) & (text != "")


def _iso(cells):
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return pc.cast(cells, pa.timestamp("us"))
    except pa.ArrowInvalid:
        pattern = r"^\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?)?Z?$"
        cells = pc.if_else(pc.match_substring_regex(cells, pattern), cells, None)
    try:
        return pc.cast(pc.replace_substring_regex(cells, "Z$", ""), pa.timestamp("us"))
    except pa.ArrowInvalid:  # such as the 31st of April: one by one, because a cast fails as a whole
        return pa.array([_iso_one(cell.as_py()) for cell in cells], pa.timestamp("us"))


def _iso_one(cell):
    try:
        return np.datetime64(cell.removesuffix("Z"), "us").item() if cell else None
    except ValueError:
        return None
