"""Small pieces of HTML. Strings become text here, escaped; only what is already `Html` passes as it is."""

import html

from research.files import number


class Html(str):
    """Markup that was made here, not text from a run. What is added to it is escaped unless it is Html too."""

    def __add__(self, other):
        return Html(str.__add__(self, text(other)))


def text(value) -> Html:
    """`value` as HTML text, escaped."""
    return value if isinstance(value, Html) else Html(html.escape(printable(str(value))))


def printable(words: str) -> str:
    """`words` without control characters, which HTML does not allow."""
    return "".join(c if c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f") else "\ufffd" for c in words)


def element(name: str, *content, **attributes) -> Html:
    """`<name attributes>content</name>`; `class_` is written as class."""
    written = "".join(f' {key.rstrip("_")}="{text(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{written}>{join(content)}</{name}>")


def embedded(data_uri: str, *, alt: str) -> Html:
    """An image that is in the page itself."""
    return Html(f'<img src="{text(data_uri)}" alt="{text(alt)}">')


def join(content) -> Html:
    """The pieces one after the other."""
    return Html("".join(text(piece) for piece in content))


def section(title: str, *content) -> Html:
    """A part of the page under a heading; nothing where there is no content."""
    return Html("\n") + element("section", element("h2", title), *content) if any(content) else Html()


def table(head, rows, *, numeric=()) -> Html:
    """A table that scrolls where it is too wide; the columns named in `numeric` are set to the right."""
    sides = ["number" if name in numeric else "words" for name in head]
    top = join(element("th", name, class_=side) for name, side in zip(head, sides, strict=True))
    body = join(
        Html("\n") + element("tr", *[element("td", cell, class_=side) for cell, side in zip(row, sides, strict=True)])
        for row in rows
    )
    whole = element("table", element("thead", element("tr", top)), element("tbody", body))
    return element("div", whole, class_="scroll")


def details(summary: str, *content) -> Html:
    """Content that is folded away under its summary."""
    return element("details", element("summary", summary), *content)


def figure(value) -> str:
    """A number as it is read: four digits, a dash where there is none."""
    value = number(value)
    if value is None:
        return "–"
    if value == int(value) and abs(value) < 1e6:
        return f"{value:.0f}"
    return f"{value:.4f}" if 1e-3 <= abs(value) < 10 else f"{value:.4g}"


def percent(share) -> str:
    """A share as a percentage, a dash where there is none."""
    share = number(share)
    return "–" if share is None else f"{100 * share:.1f} %"


def duration(seconds) -> str:
    """Seconds as 8.3 s, 4:07 min or 2:04:07 h."""
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d}:{whole % 60:02d} h"


def shortened(words: str, length: int) -> str:
    """At most `length` characters of `words`, the last an ellipsis where something was left out."""
    return words if len(words) <= length else words[: length - 1] + "…"
