"""HTML elements. All strings are escaped except values of type `Html`."""

import base64
import html
import io
import math
import re
from collections.abc import Sequence

from research.errors import printable
from research.files import number


class Html(str):
    """Trusted markup. A string that is added to it is escaped unless it is Html too."""

    def __add__(self, other):
        return Html(str.__add__(self, text(other)))


def text(value) -> Html:
    """Convert `value` to escaped HTML text; Html is returned unchanged."""
    return value if isinstance(value, Html) else Html(html.escape(printable(str(value))))


def element(name: str, *content, **attributes) -> Html:
    """Return `<name attributes>content</name>`; the attribute `class_` is written as `class`."""
    formatted = "".join(f' {key.rstrip("_")}="{text(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{formatted}>{join(content)}</{name}>")


def inline_image(data_uri: str, *, alt: str) -> Html:
    """Return an image that is embedded in the page as a data URI."""
    return Html(f'<img src="{text(data_uri)}" alt="{text(alt)}">')


def png_uri(pixels) -> str:
    """Return the data URI of a PNG of pixels u8 [H, W], [H, W, 3] or, with opacity, [H, W, 4]."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def join(content) -> Html:
    """Concatenate the pieces, escaped unless they are Html."""
    return Html("".join(text(piece) for piece in content))


def section(title: str, *content) -> Html:
    """Return a section with a heading and an id made from it, or empty Html if there is no content."""
    name = re.sub(r"\W+", "-", title.lower()).strip("-")
    return Html("\n") + element("section", element("h2", title), *content, id=name) if any(content) else Html()


def table(head, rows, *, numeric=()) -> Html:
    """Return a table that scrolls horizontally if it is too wide. Columns named in `numeric` are right-aligned."""
    sides = ["number" if name in numeric else "words" for name in head]
    top = join(element("th", name, class_=side) for name, side in zip(head, sides, strict=True))
    body = join(
        Html("\n") + element("tr", *[element("td", cell, class_=side) for cell, side in zip(row, sides, strict=True)])
        for row in rows
    )
    content = element("table", element("thead", element("tr", top)), element("tbody", body))
    return element("div", content, class_="scroll")


def details(summary: str, *content) -> Html:
    """Return content that is collapsed under its summary."""
    return element("details", element("summary", summary), *content)


def format_number(value) -> str:
    """Format a number for a reader: about four digits, or a dash if it is not a finite number."""
    value = number(value)
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 10 else f"{value:.4g}"


def with_errors(values: Sequence[float | None], errors: Sequence[float | None]) -> list[str]:
    """Format numbers that are compared, each with its error: 0.9867 ± 0.0052. An error of None or 0 is left out.

    All have the same decimals, so that the smallest error has two digits.
    """
    smallest = min((error for error in errors if error and math.isfinite(error)), default=None)
    if smallest is None:
        return [format_number(value) for value in values]
    digits = min(max(1 - math.floor(math.log10(smallest)), 0), 12)
    pairs = [(number(value), number(error)) for value, error in zip(values, errors, strict=True)]
    both = lambda value, error: f"{value:.{digits}f}" + (f" ± {error:.{digits}f}" if error else "")
    return ["–" if value is None else both(value, error) for value, error in pairs]


def percent(share) -> str:
    """Format a fraction as a percentage, or as a dash if it is not a finite number."""
    share = number(share)
    return "–" if share is None else f"{100 * share:.1f} %"


def duration(seconds) -> str:
    """Format seconds as 8.3 s, 4:07 min or 2:04:07 h."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    rounded = round(seconds)
    if rounded < 3600:
        return f"{rounded // 60}:{rounded % 60:02d} min"
    return f"{rounded // 3600}:{rounded % 3600 // 60:02d}:{rounded % 60:02d} h"


def shortened(words: str, length: int) -> str:
    """Shorten a text to at most `length` characters, ending in an ellipsis if it was longer."""
    return words if len(words) <= length else words[: length - 1] + "…"
