"""Texts as rows of tokens of one length, for networks that read sequences."""

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.data.text.bag import Encoded, TextStep
from research.data.text.clean import Cleaning
from research.data.text.tokenizer import Tokenizer, byte_tokenizer, read_tokenizer, saved_tokenizer
from research.data.text.train_tokenizer import train_tokenizer
from research.errors import UserError, check_range, unknown

ENDS = ("start", "end")


class Tokens(NamedTuple):
    """A fitted encoding as tokens; created by `tokens`."""

    length: int
    keep: str
    begin: bool
    tokenizer: Tokenizer

    @property
    def vocabulary(self) -> int:
        """The number of ids."""
        return self.tokenizer.vocabulary

    def encode(self, texts, *, cleaning: Cleaning) -> Encoded:
        """Return the records of n texts: tokens, segments (1, and 0 for padding) and positions, i32 [n, length]."""
        special = self.tokenizer.special
        ids = self.tokenizer.encode_all([cleaning(text) for text in texts])
        unknown = np.array([int((x == special["unknown"]).sum()) if "unknown" in special else 0 for x in ids], np.int64)
        first = [np.array([special["begin"]], np.int32)] if self.begin else []
        room = self.length - len(first)
        kept = [np.concatenate([*first, x[:room] if self.keep == "start" else x[-room:]]) for x in ids]
        fields = padded_tokens(kept, length=self.length, pad=special.get("pad", 0))
        units = np.array([len(x) for x in ids], np.int64)
        return Encoded(fields, units, unknown, np.maximum(units - room, 0))

    def saved(self) -> tuple[dict, dict[str, np.ndarray]]:
        """Return what is stored of it besides the tokenizer: JSON values, and arrays."""
        return {"length": self.length, "keep": self.keep, "begin": self.begin, "kind": self.tokenizer.kind}, {}

    @classmethod
    def loaded(cls, values, arrays, folder) -> "Tokens":
        """Return the encoding that `saved` described, with the tokenizer of the folder."""
        tokenizer = saved_tokenizer(folder)
        if tokenizer.kind != values["kind"]:
            raise UserError(f"{folder} has no file of its tokenizer, of the kind {values['kind']}; its folder is "
                            "incomplete.")  # fmt: skip
        return cls(values["length"], values["keep"], values["begin"], tokenizer)


def tokens(
    length: int, *, tokenizer=None, kind: str | None = None, vocabulary: int = 8000, keep: str = "start",
    begin: bool = True,
) -> TextStep:  # fmt: skip
    """Encode a text as a row of `length` tokens, cut or padded.

    tokenizer: a Tokenizer, or the path of one (`read_tokenizer`); by default that of bytes
    kind, vocabulary: train a tokenizer on the training texts instead (`train_tokenizer`)
    keep: the part of a longer text that stays: start or end
    begin: put the begin token before the text, so that no row is empty

    Raises UserError for arguments that exclude each other; at fitting, for a tokenizer without a begin token.
    """
    check_range("tokens", length=(length, 1 + begin, 2**31))
    if keep not in ENDS:
        raise unknown("end of a text", keep, ENDS)
    if tokenizer is not None and kind is not None:
        raise UserError("tokens() got tokenizer= and kind=, which trains another one; give one of them.")
    about = str(tokenizer)
    if isinstance(tokenizer, Tokenizer):
        about = [tokenizer.kind, hashlib.sha256(tokenizer.content).hexdigest()[:16]]
    arguments = {"length": length, "tokenizer": about, "kind": kind, "vocabulary": vocabulary, "keep": keep,
                 "begin": begin}  # fmt: skip

    def fit(texts, cleaning):
        if kind is not None:
            made = train_tokenizer([cleaning(text) for text in texts], kind=kind, vocabulary=vocabulary)
        elif tokenizer is None or isinstance(tokenizer, Tokenizer):
            made = tokenizer or byte_tokenizer()
        else:
            made = read_tokenizer(tokenizer)
        if begin and "begin" not in made.special:
            raise UserError(f"the tokenizer has no begin token (it has {', '.join(made.special) or 'no special one'}); "
                            "set begin=False.")  # fmt: skip
        return Tokens(length, keep, begin, made)

    return TextStep("tokens", arguments, fit)


def padded_tokens(ids: Sequence[np.ndarray], *, length: int, pad: int = 0) -> dict[str, np.ndarray]:
    """Return n arrays of at most `length` ids as the fields tokens, segments and positions, i32 [n, length].

    Segments are 1, and 0 for padding, as those of `pack`. Raises UserError for an array that is longer.
    """
    made = {name: np.zeros((len(ids), length), np.int32) for name in ("tokens", "segments", "positions")}
    made["tokens"][:] = pad
    for row, one in enumerate(ids):
        if len(one) > length:
            raise UserError(f"row {row} has {len(one)} tokens; expected at most {length}.")
        made["tokens"][row, : len(one)] = one
        made["segments"][row, : len(one)] = 1
        made["positions"][row, : len(one)] = np.arange(len(one))
    return made
