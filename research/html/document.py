"""A complete HTML page in one file that needs no network."""

import re
from pathlib import Path

from research.errors import UserError
from research.files import atomic_write
from research.html.markup import Html, element
from research.html.theme import CSS


def document(title: str, body: Html) -> str:
    """Return a complete page with an embedded style sheet, and links to its sections if it has three or more."""
    sections = re.findall(r'<section id="([^"]*)"><h2>(.*?)</h2>', body)
    links = [element("a", Html(heading), href=f"#{name}") for name, heading in sections]
    links = element("nav", *[part for link in links for part in (link, " ")]) if len(links) > 2 else ""
    # With this policy, a browser neither loads other resources nor runs scripts for the page.
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
    head = (
        '<meta charset="utf-8">\n<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f"{element('title', title)}\n<style>\n{CSS}</style>"
    )
    return f'<!DOCTYPE html>\n<html lang="en">\n<head>\n{head}\n</head>\n<body>\n{links}\n{body}\n</body>\n</html>\n'


def write_page(text: str, path) -> Path:
    """Write a page, or other text that belongs to it, and return the path. Raises UserError if it cannot be written."""
    path = Path(path).expanduser()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part:
            part.write_bytes(text.encode("utf-8", "replace"))
    except OSError as error:
        raise UserError(f"the page cannot be written to {path}: {error.strerror or error}.") from error
    return path
