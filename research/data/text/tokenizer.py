"""Tokenizers: text to token ids and back, read from the files of a checkpoint, and saved with a run.

    tokenizer = read_tokenizer("folder")       tokenizer.json, vocab.json + merges.txt, vocab.txt or a .model file
    ids = tokenizer.encode("some text")        i32 [time], without begin and end tokens
    tokenizer.decode(ids)                      the text

`research.data.text.train_tokenizer` trains one on local text. The libraries `tokenizers` and `sentencepiece` are in the
extra `text`; `byte_tokenizer` needs none of them.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from research.data.readers import paths
from research.data.text.byte_text import BEGIN, VOCABULARY
from research.data.text.words import missing_extra
from research.errors import UserError, nearest
from research.files import atomic_write

FILES = {"tokenizers": "tokenizer.json", "sentencepiece": "tokenizer.model"}
SPECIAL = {  # the names that special tokens have in published tokenizers
    "pad": ("<pad>", "[PAD]", "<|pad|>"),
    "unknown": ("<unk>", "[UNK]"),
    "begin": ("<s>", "[CLS]", "<bos>", "<|begin_of_text|>", "<|startoftext|>", "<|endoftext|>"),
    "end": ("</s>", "[SEP]", "<eos>", "<|end_of_text|>", "<|endoftext|>"),
    "mask": ("<mask>", "[MASK]"),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Tokenizer:
    """A tokenizer; created by `byte_tokenizer`, `read_tokenizer` and `train_tokenizer`.

    kind: "bytes", "tokenizers" or "sentencepiece"
    content: the bytes of its file; empty for bytes
    vocabulary: number of ids
    special: {role: id} of the special tokens that it has, out of pad, unknown, begin, end and mask
    encode_all: list of n texts -> list of n arrays of ids, i32
    decode: ids -> text, without special tokens; invalid UTF-8 becomes replacement characters
    """

    kind: str
    content: bytes = dataclasses.field(repr=False)
    vocabulary: int
    special: Mapping[str, int]
    encode_all: Callable[[Sequence[str]], list[np.ndarray]] = dataclasses.field(repr=False)
    decode: Callable[[Sequence[int]], str] = dataclasses.field(repr=False)

    def encode(self, text: str) -> np.ndarray:
        """Return the ids of a text, i32 [time]; an empty text has none. Begin and end tokens are not added."""
        if not isinstance(text, str):
            raise UserError(f"encode() got a {type(text).__name__}; expected a string.")
        return self.encode_all([text])[0]

    def save(self, folder):
        """Write the file of the tokenizer into a folder: `tokenizer.json` or `tokenizer.model`; none for bytes."""
        if self.kind in FILES:
            with atomic_write(Path(folder, FILES[self.kind])) as path:
                path.write_bytes(self.content)


def byte_tokenizer() -> Tokenizer:
    """Return the tokenizer of the 256 byte values of UTF-8 and a begin token (`research.data.text.byte_text`)."""
    encode = lambda texts: [np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8).astype(np.int32)
                            for text in texts]  # fmt: skip
    decode = lambda ids: bytes(int(i) for i in ids if i < BEGIN).decode(errors="replace")
    return Tokenizer("bytes", b"", VOCABULARY, {"begin": BEGIN}, encode, decode)


def read_tokenizer(path) -> Tokenizer:
    """Read a tokenizer from its file, or from the folder of a checkpoint.

    In a folder, the first of these is read: `tokenizer.json`; `vocab.json` with `merges.txt`, a byte-level BPE (GPT-2);
    `vocab.txt`, a WordPiece (BERT), in lower case if `tokenizer_config.json` says so or, without that file, if no token
    has a capital letter; `*.model`, of SentencePiece.
    Raises UserError if there is none, for a damaged file or one of another kind, and without the library.
    """
    path = paths.existing(path, what="tokenizer file or folder")
    if path.is_dir():
        path = _file_in(path)
    if path.suffix == ".model":
        return sentencepiece_tokenizer(path.read_bytes(), what=str(path))
    if path.name == "vocab.txt":
        return _wordpiece(path)
    if path.name in ("vocab.json", "merges.txt"):
        return _byte_bpe(path.parent)
    if path.suffix == ".json":
        return json_tokenizer(path.read_bytes(), what=str(path))
    raise UserError(f"{path} is no tokenizer file; expected tokenizer.json, vocab.json with merges.txt, vocab.txt or a "
                    f".model file.{nearest(path.name, ('tokenizer.json', 'vocab.txt'))}")  # fmt: skip


def _file_in(folder):
    for name in ("tokenizer.json", "vocab.json", "vocab.txt"):
        if (folder / name).is_file():
            return folder / name
    if models := sorted(folder.glob("*.model")):
        return models[0]
    names = sorted(p.name for p in folder.iterdir())
    raise UserError(f"{folder} has no tokenizer; expected tokenizer.json, vocab.json with merges.txt, vocab.txt or a "
                    f".model file. It has: {', '.join(names[:12]) or 'nothing'}.")  # fmt: skip


def library():
    """Return the module `tokenizers`. Raises UserError, which names the extra, if it is not installed."""
    try:
        import tokenizers
    except ModuleNotFoundError as error:
        raise missing_extra("tokenizers", "text") from error
    return tokenizers


def json_tokenizer(content: bytes, *, what: str = "the tokenizer") -> Tokenizer:
    """Make a Tokenizer from the content of a `tokenizer.json`; `what` names it in messages."""
    tokenizers = library()
    try:
        text = content.decode()
        found = json.loads(text)
    except ValueError as error:
        raise UserError(f"{what} is damaged: it is not complete JSON ({error}).") from error
    if not isinstance(found, dict) or not isinstance(found.get("model"), dict):
        have = sorted(found)[:4] if isinstance(found, dict) else type(found).__name__
        raise UserError(f"{what} is no tokenizer.json: it has no entry 'model' (it has {have}). A vocab.json needs "
                        "merges.txt beside it; give their folder.")  # fmt: skip
    try:
        made = tokenizers.Tokenizer.from_str(text)
    except Exception as error:  # the library raises plain exceptions
        raise UserError(f"{what} cannot be read by tokenizers {tokenizers.__version__}: {error}.") from error
    return of_library(made)


def of_library(made) -> Tokenizer:
    """Make a Tokenizer from a Tokenizer of the library `tokenizers`."""
    made.no_padding()
    made.no_truncation()
    special = {}
    for role, names in SPECIAL.items():
        ids = [i for i in map(made.token_to_id, names) if i is not None]
        special |= {role: ids[0]} if ids else {}

    def encode_all(texts):
        return [np.array(e.ids, np.int32) for e in made.encode_batch(list(texts), add_special_tokens=False)]

    decode = lambda ids: made.decode([int(i) for i in ids], skip_special_tokens=True)
    return Tokenizer("tokenizers", made.to_str().encode(), made.get_vocab_size(), special, encode_all, decode)


def _byte_bpe(folder):
    tokenizers = library()
    vocab, merges = folder / "vocab.json", folder / "merges.txt"
    for path in (vocab, merges):
        if not path.is_file():
            raise UserError(f"{folder} has no {path.name}; a BPE tokenizer needs vocab.json and merges.txt.")
    try:
        model = tokenizers.models.BPE.from_file(str(vocab), str(merges))
    except Exception as error:
        raise UserError(f"{vocab} and {merges} cannot be read as a BPE tokenizer: {error}.") from error
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = tokenizers.decoders.ByteLevel()
    absent = [c for c in sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet()) if made.token_to_id(c) is None]
    if absent:
        raise UserError(f"{vocab} lacks {len(absent)} of the 256 symbols of a byte-level BPE, such as {absent[0]!r}; "
                        "another kind of BPE is read from its tokenizer.json.")  # fmt: skip
    return of_library(_with_special(made))


def _wordpiece(path):
    tokenizers = library()
    lines = path.read_text(encoding="utf-8").splitlines()
    if "[UNK]" not in lines:
        raise UserError(f"{path} has no token [UNK]; expected a WordPiece vocabulary with a token per line.")
    config = path.with_name("tokenizer_config.json")
    names = {name for names in SPECIAL.values() for name in names}
    lower = all(line == line.lower() for line in lines if line not in names and not line.startswith("[unused"))
    if config.exists():
        lower = bool(json.loads(config.read_text(encoding="utf-8")).get("do_lower_case", lower))
    vocab = {token: number for number, token in enumerate(lines)}
    made = tokenizers.Tokenizer(tokenizers.models.WordPiece(vocab, unk_token="[UNK]"))
    made.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lower)
    made.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    made.decoder = tokenizers.decoders.WordPiece()
    return of_library(_with_special(made))


def _with_special(made):
    """Declare the special tokens of the vocabulary, so that text is never split inside one."""
    made.add_special_tokens([n for names in SPECIAL.values() for n in names if made.token_to_id(n) is not None])
    return made


def sentencepiece_tokenizer(content: bytes, *, what: str = "the tokenizer") -> Tokenizer:
    """Make a Tokenizer from the content of a `.model` file of SentencePiece; `what` names it in messages."""
    try:
        import sentencepiece
    except ModuleNotFoundError as error:
        raise missing_extra("sentencepiece", "text") from error
    made = sentencepiece.SentencePieceProcessor()
    try:
        made.LoadFromSerializedProto(content)
        size = made.GetPieceSize()
    except Exception as error:
        raise UserError(f"{what} is damaged, or no model of SentencePiece: {error}.") from error
    if not content or not size:
        raise UserError(f"{what} is no model of SentencePiece: it has no pieces.")
    ids = {"pad": made.pad_id(), "unknown": made.unk_id(), "begin": made.bos_id(), "end": made.eos_id()}
    mask = [made.PieceToId(name) for name in SPECIAL["mask"] if made.PieceToId(name) != made.unk_id()]
    special = {role: i for role, i in ids.items() if i >= 0} | ({"mask": mask[0]} if mask else {})
    encode_all = lambda texts: [np.array(ids, np.int32) for ids in made.EncodeAsIds(list(texts))]
    decode = lambda ids: made.DecodeIds([int(i) for i in ids])
    return Tokenizer("sentencepiece", content, size, special, encode_all, decode)


def saved_tokenizer(folder) -> Tokenizer:
    """Read the tokenizer that `save` wrote into a folder; that of bytes if there is no file."""
    makers = {"tokenizers": json_tokenizer, "sentencepiece": sentencepiece_tokenizer}
    for kind, name in FILES.items():
        if (path := Path(folder, name)).exists():
            return makers[kind](path.read_bytes(), what=str(path))
    return byte_tokenizer()
