"""Token ids of tiktoken (byte-level BPE) and transformers (WordPiece), and stems of NLTK."""

import json

import numpy as np

PACKAGES = ("tiktoken==0.14.0", "transformers==5.24.0", "nltk==3.10.4")
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"  # of GPT-2
CORPUS = (
    "the theory of the thin thing: this thinker thought that those three things were the same as the other three. " * 3
)
TEXTS = ("the other thinker thought", "Naïve things, 3 of them!", "  two  spaces\nand a line", "日本 and 🙂", "")
WORDS = "running runs easily cats ponies national rationalise hopping skies dying generously".split()
GERMAN = "häuser laufen aufeinander schönes kategorien".split()
PIECES = ("[PAD] [UNK] [CLS] [SEP] [MASK] the thin think ##er ##s thing ##ing na ##ive naive things , ! 3 of them "
          "t ##w ##o a and line").split()  # fmt: skip


def values():
    import tempfile
    from pathlib import Path

    import tiktoken
    from nltk.stem.snowball import SnowballStemmer
    from tiktoken._educational import bpe_train
    from transformers import BertTokenizer

    ranks = bpe_train(CORPUS, 285, PATTERN, visualise=None)
    encoding = tiktoken.Encoding("small", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={})
    symbols = byte_symbols()
    written = lambda piece: "".join(symbols[byte] for byte in piece)
    merges = [" ".join(map(written, parts(piece, ranks))) for piece in ranks if len(piece) > 1]
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "vocab.txt").write_text("\n".join(PIECES))
        bert = BertTokenizer.from_pretrained(folder)
        pieces = [bert.convert_tokens_to_ids(bert.tokenize(text)) for text in TEXTS]
    bpe = [encoding.encode(text) for text in TEXTS]
    stems = [SnowballStemmer("english").stem(word) for word in WORDS]
    german_stems = [SnowballStemmer("german").stem(word) for word in GERMAN]
    return {
        "texts": as_bytes(json.dumps(TEXTS)),
        "vocab": as_bytes(json.dumps({written(piece): rank for piece, rank in ranks.items()})),
        "merges": as_bytes("#version: 0.2\n" + "\n".join(merges) + "\n"),
        "bpe": joined(bpe),
        "pieces": as_bytes("\n".join(PIECES)),
        "wordpiece": joined(pieces),
        "stems": as_bytes(json.dumps({"en": [WORDS, stems], "de": [GERMAN, german_stems]})),
    }


def as_bytes(text):
    """A text as an array, because values are compared as numbers."""
    return np.frombuffer(text.encode(), np.uint8)


def joined(rows):
    """Rows of ids as one array, with -1 after each row."""
    return np.concatenate([np.array([*row, -1], np.int64) for row in rows])


def byte_symbols():
    """The printable symbol of each byte in the files of GPT-2."""
    kept = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in kept]
    return {byte: chr(byte) for byte in kept} | {byte: chr(256 + i) for i, byte in enumerate(others)}


def parts(piece, ranks):
    """The two tokens that merge into `piece`: what is left of its bytes when only lower ranks merge."""
    found = [bytes([byte]) for byte in piece]
    while len(found) > 2:
        pairs = [(ranks.get(a + b, len(ranks)), i) for i, (a, b) in enumerate(zip(found, found[1:], strict=False))]
        rank, i = min(pairs)
        found[i : i + 2] = [found[i] + found[i + 1]]
    return found
