"""Python's manual in passages: the text below each title, and the description of each function, class and constant."""

import re

from research.data.packaged import PackagedSet, fields
from research.data.readers.packages import Package

FOLDER = "usr/share/doc/python3.11/html/_sources"
PARTS = ("c-api", "extending", "faq", "howto", "library", "reference", "tutorial", "using")
TITLE = r"^(\S.*)\n(?:={3,}|-{3,}|~{3,}|\^{3,}|\*{3,}|\"{3,}|'{3,}|#{3,}|\+{3,})$"
DESCRIBED = (
    r"^ *\.\. (?:\w+:)?(?:\w*(?:function|method)|class|decorator|describe|exception|macro|opcode|type):: *(\S.*)$"
)
START = re.compile(f"{TITLE}|{DESCRIBED}", re.M)
MARKUP = (
    (r"^ *\.\. .*$|^ +:[\w -]+:(?!`).*$|^[=\-~^*\"'#+]{3,}$", ""),  # directives, their options, and lines above titles
    (r"``([^`]+)``", r"\1"),
    (r"(?::[\w:+-]+:)?`[~!]?([^`<]+?)\s*(?:<[^`]*>)?`(?:__?)?", r"\1"),  # roles and links
    (r"(?<![\w*])\*{1,2}([^\s*][^*\n]*?)\*{1,2}(?!\w)", r"\1"),  # emphasis
    (r"::$", ":"),
    (r"[ \t]+", " "),
    (r"\n\s*\n", "\n\n"),
)


def read(files):
    """Read the sources in reStructuredText; a passage ends at the next title or described object of its file."""
    rows = []
    for path, content in files.items():
        source = content.decode("utf-8")
        found = list(START.finditer(source))
        ends = [match.start() for match in found[1:]] + [len(source)]
        for match, end in zip(found, ends, strict=False):
            title, text = plain(match[1] or match[2]), plain(source[match.end() : end])
            if title and len(text.split()) >= 10:
                rows.append((path.removeprefix(f"{FOLDER}/").removesuffix(".rst.txt"), title, text))
    return {"train": rows}


def plain(source: str) -> str:
    """Return reStructuredText without its markup."""
    for pattern, replacement in MARKUP:
        source = re.sub(pattern, replacement, source, flags=re.M)
    return source.strip()


SET = PackagedSet(
    summary="Passages of the manual of Python 3.11 with their titles; those of the FAQ answer a question, their title.",
    kind="text, retrieval",
    licence="PSF",
    split="none: all records are in train",
    best="BM25 finds the answers of 54 % of 87 questions of the FAQ among its first ten texts (measured)",
    homepage="https://docs.python.org/3.11/",
    package=Package(
        client="apt-get",
        name="python3.11-doc",
        version="",
        files=tuple(f"{FOLDER}/{part}/*.rst.txt" for part in PARTS),
        sha256="c0317819dbacde3c692b3e3b565b374f6b9a1b957c731409ff73fae6e26a4583",
    ),
    read=read,
    fields=fields("file title text"),
    examples={"train": 9348},
    content="71e580178658ad33",
    consent="no data about people",
)
