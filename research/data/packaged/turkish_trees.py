"""Turkish Web Treebank: sentences of the web and of Wikipedia with parts of speech and dependency trees."""

from research.data.packaged import PackagedSet, fields
from research.data.readers.packages import Package

FILES = ("data/web.conllu", "data/wiki.conllu")


def read(files):
    """Read one sentence per record, in CoNLL-U; the values of its words are joined by spaces."""
    rows = []
    for path, content in files.items():
        domain = path.rpartition("/")[2].removesuffix(".conllu")
        for block in content.decode("utf-8").strip().split("\n\n"):
            lines = block.split("\n")
            name = next(line for line in lines if line.startswith("# sent_id")).partition(" = ")[2]
            words = [line.split("\t") for line in lines if not line.startswith("#")]
            columns = [" ".join(word[i] for word in words) for i in (1, 3, 6, 7)]
            rows.append((name.rpartition(":")[0], domain, *columns))
    return {"train": rows}


SET = PackagedSet(
    summary="4,851 Turkish sentences of the web and of Wikipedia: parts of speech, heads and relations of each word.",
    kind="text, tags, trees",
    licence="Apache-2.0",
    split="none: all records are in train, to be split by document",
    best="none known for this release",
    homepage="https://github.com/google-research-datasets/turkish-treebanks",
    package=Package(
        client="pip",
        name="turkish-treebanks",
        version="1.0.0",
        files=FILES,
        sha256="f86da571445f8305311f337496073c16a2fadf5517f72795a82a541b748c4522",
    ),
    read=read,
    fields=fields("document domain text tags heads relations"),
    examples={"train": 4851},
    content="27da99db984c0c38",
    faults=(
        "Words are split into inflectional groups, which are linked by the relation `ig`; not Universal Dependencies.",
    ),
)
