"""Descriptions of Debian's packages, with the translations of its volunteers, from apt's lists."""

import zlib
from collections.abc import Iterator

from research.data.readers.packages import Package

FILES = ("*_debian_dists_*_main_i18n_Translation-en", "*_debian_dists_*_main_i18n_Translation-it")
PACKAGE = Package(client="apt-lists", name="debian-descriptions", version="", files=FILES, sha256="")
LICENCE = "free, as all of Debian main; the lists state no licence for a single text"
HOMEPAGE = "https://www.debian.org/international/l10n/ddtp"


def descriptions(files: dict[str, bytes], language: str) -> Iterator[tuple[str, str, list[str]]]:
    """Yield (MD5 of the English description, title, paragraphs) of each description in a language.

    A paragraph is the text between lines of " ."; the lines of a list of items are left out, because they are aligned
    by their indentation.
    """
    for name, content in files.items():
        for stanza in content.decode().split("\n\n") if name.endswith(f"Translation-{language}") else ():
            head, _, body = stanza.partition(f"\nDescription-{language}: ")
            title, *lines = body.split("\n")
            fields = dict(line.split(": ", 1) for line in head.split("\n") if ": " in line)
            paragraphs = [""]
            for line in lines:
                if line.strip() == ".":
                    paragraphs.append("")
                elif not line.startswith("  "):
                    paragraphs[-1] = f"{paragraphs[-1]} {line.strip()}".strip()
            if body:
                yield fields["Description-md5"], title.strip(), paragraphs


def part_of(text: str) -> str:
    """Return the split of a text by its CRC32: a fiftieth each is for the test and for validation."""
    return {0: "test", 1: "validation"}.get(zlib.crc32(text.encode()) % 50, "train")
