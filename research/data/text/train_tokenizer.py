"""Train a tokenizer on local text: BPE, byte-level BPE, WordPiece, Unigram, or whole words."""

import io
from collections.abc import Iterable

from research.data.text.tokenizer import Tokenizer, library, of_library, sentencepiece_tokenizer
from research.data.text.words import missing_extra
from research.errors import UserError, unknown

TOKENS = ("<pad>", "<unk>", "<s>", "</s>", "<mask>")  # the special tokens of each trained tokenizer: ids 0 to 4
KINDS = ("bpe", "byte_bpe", "wordpiece", "unigram", "words")


def train_tokenizer(texts: Iterable[str], *, kind: str, vocabulary: int) -> Tokenizer:
    """Train a tokenizer on texts of the training rows.

    kind: one of
      - bpe: merges of characters inside words (Sennrich et al. 2016, arXiv:1508.07909)
      - byte_bpe: merges of bytes (Radford et al. 2019): no text has an unknown token
      - wordpiece: as BERT's, in lower case and without accents, which decoding does not restore
      - unigram: by SentencePiece (Kudo 2018, arXiv:1804.10959)
      - words: the most frequent words and punctuation marks
    vocabulary: number of tokens, with the special ones <pad>, <unk>, <s>, </s> and <mask>; fewer if the texts have no
      more, except for unigram

    The same texts in the same order give the same tokenizer.
    Raises UserError for an unknown kind, texts without a character, a vocabulary that is too small (or, for unigram,
    too large), and without the library.
    """
    if kind not in KINDS:
        raise unknown("kind of tokenizer", kind, KINDS)
    texts = [text for text in texts if text.strip()]
    if not texts:
        raise UserError("train_tokenizer() got no text; expected at least one text with a character.")
    least = len(TOKENS) + (256 if kind == "byte_bpe" else 1)
    if vocabulary < least:
        raise UserError(f"vocabulary={vocabulary}; {kind} needs at least {least}, with the special tokens.")
    return _unigram(texts, vocabulary) if kind == "unigram" else _trained(texts, kind, vocabulary)


def _trained(texts, kind, vocabulary):
    t = library()
    options = {"vocab_size": vocabulary, "special_tokens": list(TOKENS), "show_progress": False}
    match kind:
        case "bpe":
            made, trainer = t.Tokenizer(t.models.BPE(unk_token="<unk>")), t.trainers.BpeTrainer(**options)
            made.pre_tokenizer, made.decoder = t.pre_tokenizers.Metaspace(), t.decoders.Metaspace()
        case "byte_bpe":
            # Without the alphabet, bytes that the texts do not have would be lost silently.
            alphabet = t.pre_tokenizers.ByteLevel.alphabet()
            made, trainer = t.Tokenizer(t.models.BPE()), t.trainers.BpeTrainer(initial_alphabet=alphabet, **options)
            made.pre_tokenizer = t.pre_tokenizers.ByteLevel(add_prefix_space=False)
            made.decoder = t.decoders.ByteLevel()
        case "wordpiece":
            made = t.Tokenizer(t.models.WordPiece(unk_token="<unk>"))
            trainer = t.trainers.WordPieceTrainer(**options)
            made.normalizer, made.pre_tokenizer = t.normalizers.BertNormalizer(), t.pre_tokenizers.BertPreTokenizer()
            made.decoder = t.decoders.WordPiece()
        case "words":
            made, trainer = t.Tokenizer(t.models.WordLevel(unk_token="<unk>")), t.trainers.WordLevelTrainer(**options)
            made.pre_tokenizer = t.pre_tokenizers.Whitespace()
    made.train_from_iterator(texts, trainer)
    return of_library(made)


def _unigram(texts, vocabulary):
    try:
        import sentencepiece
    except ModuleNotFoundError as error:
        raise missing_extra("sentencepiece", "text") from error
    written = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.Train(
            sentence_iterator=iter(texts),
            model_writer=written,
            model_type="unigram",
            vocab_size=vocabulary,
            normalization_rule_name="identity",  # `Cleaning` normalises
            max_sentence_length=1 + max(len(text.encode()) for text in texts),  # longer ones would be left out
            pad_id=0,
            unk_id=1,
            bos_id=2,
            eos_id=3,
            user_defined_symbols=[TOKENS[4]],
            num_threads=1,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[-1].rpartition("] ")[2]
        raise UserError(f"the unigram tokenizer cannot be trained with vocabulary={vocabulary}: {reason}") from error
    return sentencepiece_tokenizer(written.getvalue())
