"""Cleaning of texts: Unicode normal form, control characters, markup, case and spaces."""

import html.parser
import re
import unicodedata
from typing import NamedTuple

import numpy as np

from research.data.readers.arrays import column
from research.data.readers.records import objects
from research.errors import UserError, unknown

FORMS = ("NFC", "NFD", "NFKC", "NFKD")
HIDDEN = ("script", "style", "template")  # elements whose content is not text
BREAKS = frozenset(
    "address article aside blockquote br dd div dl dt footer form h1 h2 h3 h4 h5 h6 header hr li main nav ol p pre "
    "section table td th title tr ul".split()
)


class Cleaning(NamedTuple):
    """Settings of a cleaning; calling it with a text returns the clean text. The default changes nothing but NFC.

    form: the Unicode normal form (Unicode Standard Annex 15), or None to keep the code points
    markup: replace HTML by its text: character references are decoded; scripts, styles and comments are removed
    controls: remove control, format and unassigned characters (categories Cc, Cf, Cn, Co, Cs), except white space and
      the joiners U+200C and U+200D, which some scripts need
    lower: convert to lower case
    accents: keep accents; False removes the combining marks of the decomposed text (category Mn)
    spaces: replace every run of white space by one space, and remove it at both ends

    The steps run in this order: markup, controls, case and accents, normal form, spaces.
    """

    form: str | None = "NFC"
    markup: bool = False
    controls: bool = False
    lower: bool = False
    accents: bool = True
    spaces: bool = False

    def __call__(self, text: str) -> str:
        if self.form is not None and self.form not in FORMS:
            raise unknown("Unicode normal form", self.form, FORMS)
        text = without_markup(text) if self.markup else text
        text = "".join(filter(_kept, text)) if self.controls else text
        text = text.lower() if self.lower else text
        if not self.accents:
            text = "".join(c for c in unicodedata.normalize("NFKD", text) if unicodedata.category(c) != "Mn")
        text = unicodedata.normalize(self.form, text) if self.form else text
        return " ".join(text.split()) if self.spaces else text


def _kept(character) -> bool:
    joiner = character in "\u200c\u200d"
    return joiner or character.isspace() or unicodedata.category(character)[0] != "C"


def without_markup(text: str) -> str:
    """Return the text of an HTML document or fragment. Block elements and line breaks become a line break."""
    parser = _Text()
    parser.feed(text)
    parser.close()
    return "".join(parser.found)


class _Text(html.parser.HTMLParser):
    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.found, self.hidden = [], 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in HIDDEN
        self.found += ["\n"] if tag in BREAKS else []

    def handle_endtag(self, tag):
        self.hidden = max(0, self.hidden - (tag in HIDDEN))
        self.found += ["\n"] if tag in BREAKS else []

    def handle_data(self, data):
        self.found += [] if self.hidden else [data]


def texts_of(data, field: str = "text") -> np.ndarray:
    """Return the field of a data set as strings, object [n]; bytes and u8 arrays are decoded as UTF-8.

    A missing text (None) becomes "". Raises UserError, with the record, for invalid UTF-8 and for other types.
    """
    return objects([text_of(value, record=i) for i, value in enumerate(column(data, field))])


def text_of(value, *, record: int | None = None) -> str:
    """Return a value as a string, as `texts_of` does; `record` is its number in messages."""
    if isinstance(value, str):
        return str(value)
    if value is None:
        return ""
    where = "the text" if record is None else f"the text of record {record}"
    if isinstance(value, np.ndarray) and value.dtype == np.uint8:
        value = value.tobytes()
    if not isinstance(value, bytes):
        raise UserError(f"{where} is of type {type(value).__name__}; expected a string, or bytes of UTF-8.")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        around = re.sub(r"^b|'", "", repr(value[max(0, error.start - 8) : error.start + 4]))
        raise UserError(
            f"{where} is not UTF-8: byte {error.start} of {len(value)} is 0x{value[error.start]:02x} (around "
            f"{around}). "
            "Decode it with its own encoding, for example mapped(data, fn)."
        ) from None
