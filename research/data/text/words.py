"""Words of a text: segmentation, stop words and stems.

Chinese is segmented by jieba, other languages by rules of spaCy. Stop words are those of spaCy, stems those of the
Snowball stemmers. The libraries are imported when they are needed: extras `text` (jieba, snowballstemmer) and `spacy`.
"""

import functools
import importlib
import re
import warnings
from typing import NamedTuple

from research.errors import UserError, unknown

PATTERNS = {"words": r"\b\w\w+\b", "all_words": r"\w+|[^\w\s]", "spaces": r"\S+"}
SPLITTERS = (*PATTERNS, "jieba", "spacy")


class Words(NamedTuple):
    """Settings of a segmentation; calling it with a text returns its words.

    splitter: one of
      - words: runs of at least two letters or digits, as scikit-learn's vectorizers
      - all_words: runs of letters or digits of any length, and every punctuation mark
      - spaces: runs without white space
      - jieba: Chinese, with the dictionary of jieba
      - spacy: the tokenizer of spaCy's blank pipeline of `language`, without white space
    language: ISO 639-1 code, for spaCy and stop words, and for stems
    stop: remove the stop words of the language, compared in lower case
    stem: replace each word by its Snowball stem (Porter 2001), in lower case

    Calling it raises UserError for an unknown splitter or language, and if the library is not installed.
    """

    splitter: str = "words"
    language: str = "en"
    stop: bool = False
    stem: bool = False

    def __call__(self, text: str) -> list[str]:
        found = splitter_of(self.splitter, self.language)(text)
        if self.stop:
            stop = stop_words(self.language)
            found = [word for word in found if word.lower() not in stop]
        return _stemmer(self.language).stemWords([word.lower() for word in found]) if self.stem else found


@functools.cache
def splitter_of(splitter: str, language: str):
    """Return the function text -> list of words of a splitter."""
    if splitter in PATTERNS:
        return re.compile(PATTERNS[splitter]).findall
    if splitter == "jieba":
        return _jieba()
    if splitter != "spacy":
        raise unknown("splitter", splitter, SPLITTERS)
    pipeline = _spacy(language).blank(language)
    return lambda text: [token.text for token in pipeline.tokenizer(text) if not token.is_space]


def _jieba():
    cut = _imported_jieba().cut
    return lambda text: [word for word in cut(text) if not word.isspace()]


def jieba_tagged(text: str) -> tuple[list[str], list[str]]:
    """Segment a Chinese text with jieba, and return its words and their parts of speech. Needs the extra `text`."""
    pairs = list(_imported_jieba().posseg.cut(text))
    return [pair.word for pair in pairs], [pair.flag for pair in pairs]


def _imported_jieba():
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in its source, and pkg_resources
            import jieba.posseg
    except ModuleNotFoundError as error:
        raise missing_extra("jieba", "text") from error
    jieba.setLogLevel(60)
    return jieba


def _spacy(language):
    try:
        import spacy
    except ModuleNotFoundError as error:
        raise missing_extra("spaCy", "spacy") from error
    try:
        importlib.import_module(f"spacy.lang.{language}")
    except ModuleNotFoundError as error:
        raise UserError(f"spaCy has no language {language!r}; expected an ISO 639-1 code, such as 'en'.") from error
    return spacy


@functools.cache
def stop_words(language: str) -> frozenset[str]:
    """Return the stop words of a language, in lower case, from spaCy. Raises UserError without spaCy, or the list."""
    _spacy(language)
    try:
        found = importlib.import_module(f"spacy.lang.{language}.stop_words").STOP_WORDS
    except ModuleNotFoundError as error:
        raise UserError(f"spaCy has no stop words for the language {language!r}.") from error
    return frozenset(word.lower() for word in found)


LANGUAGES = {
    "ar": "arabic", "da": "danish", "de": "german", "en": "english", "es": "spanish", "fi": "finnish", "fr": "french",
    "hu": "hungarian", "it": "italian", "nl": "dutch", "no": "norwegian", "pt": "portuguese", "ro": "romanian",
    "ru": "russian", "sv": "swedish", "ta": "tamil", "tr": "turkish",
}  # fmt: skip


@functools.cache
def _stemmer(language):
    try:
        import snowballstemmer
    except ModuleNotFoundError as error:
        raise missing_extra("snowballstemmer", "text") from error
    if language not in LANGUAGES:
        raise unknown("language of the stemmers", language, LANGUAGES)
    return snowballstemmer.stemmer(LANGUAGES[language])


def missing_extra(library: str, extra: str) -> UserError:
    """Return the error for a library that is not installed; it names the extra."""
    return UserError(f"{library} is not installed; it needs the extra: pip install -e '.[{extra}]' in the project's "
                     "folder.")  # fmt: skip
