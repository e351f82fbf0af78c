"""Text without spaces: tags of characters that mark words or names, and the longest words of a list."""

from collections.abc import Callable, Collection, Sequence

from research.errors import UserError


def word_tags(words: Sequence[str]) -> list[str]:
    """Return a tag per character: B, I and E at the begin, inside and end of a word, S for a word of one (Xue 2003)."""
    return [tag for word in words for tag in ("S" if len(word) == 1 else "B" + "I" * (len(word) - 2) + "E")]


def name_tags(words: Sequence[str], kinds: Sequence[str], *, joined: Collection[str] = ()) -> list[str]:
    """Return a tag per character: B-kind at the begin of a name, I-kind inside, O in words of the kind "".

    Each word of another kind is a name. Neighbouring words of a kind of `joined` are one name, as a surname and a given
    name. Raises UserError if the numbers of words and kinds differ.
    """
    if len(words) != len(kinds):
        raise UserError(f"{len(words)} words have {len(kinds)} kinds; expected one each.")
    tags, before = [], ""
    for word, kind in zip(words, kinds, strict=True):
        continued = kind == before and kind in joined
        tags += [f"{'I' if i or continued else 'B'}-{kind}" if kind else "O" for i in range(len(word))]
        before = kind
    return tags


def character_ngrams(text: str, length: int) -> list[str]:
    """Return each character of a text with the `length` - 1 characters after it; spaces follow the end."""
    followed = text + " " * (length - 1)
    return [followed[i : i + length] for i in range(len(text))]


def sentences(words: Sequence[str], *values: Sequence[str], ends: str = "。！？；") -> list[tuple[Sequence[str], ...]]:
    """Cut words, and further values per word, after each word of `ends`."""
    cuts = [0, *(i for i, word in enumerate(words, 1) if word in ends and i < len(words)), len(words)]
    return [tuple(part[a:b] for part in (words, *values)) for a, b in zip(cuts, cuts[1:], strict=False) if b > a]


def longest_words(lexicon: Collection[str]) -> Callable[[str], list[str]]:
    """Return a segmentation by maximum matching: from the end of a text, always the longest word of the lexicon.

    A character with which no word ends is a word of its own.
    """
    longest = max(map(len, lexicon), default=1)

    def split(text: str) -> list[str]:
        found, end = [], len(text)
        while end:
            starts = range(max(0, end - longest), end - 1)
            start = next((i for i in starts if text[i:end] in lexicon), end - 1)
            found.append(text[start:end])
            end = start
        return found[::-1]

    return split
