"""Pairs of texts for the metrics of texts: ordinary sentences, their corruptions, and hostile ones.

`tests/truth/text_metrics.py` computes the reference values of the same texts with other libraries.
"""

import codecs
import contextlib
import io
import random

with contextlib.redirect_stdout(io.StringIO()):
    import this  # prints itself

ZEN = [line for line in codecs.decode(this.s, "rot13").split("\n") if line]
HOSTILE = [  # (hypothesis, references)
    ("", ["The cat sat on the mat."]),
    ("the the the the the the the", ["The cat is on the mat.", "There is a cat on the mat."]),
    ("The cat", ["The cat sat on the mat."]),
    ("cat", ["dog"]),
    ("a", ["a"]),
    ("...", ["!!!"]),
    ("It's 3,141.59 dollars-and 5-6 %.", ["It 's 3,141.59 dollars and 5-6%."]),
    ("&quot;Ben &amp; Jerry&quot; &lt;b&gt; <skipped>well-\nknown", ['"Ben & Jerry" <b> wellknown']),
    ("他在北京大学学习。", ["他 在 北京 大学 学习 。", "他就读于北京大学。"]),
    ("吾輩は猫である。名前はまだ無い。", ["吾輩は猫である。名前はまだない。"]),
    ("I 💙 JAX 👩‍🔬🎉", ["I 💙💙 JAX! 👩‍🔬 🎉"]),
    ("Größe naïve ŒUVRE İstanbul ﬁ", ["größe naive œuvre istanbul fi"]),
    ("  spaces\tand  tabs   ", ["spaces and tabs"]),
    ("Running runners ran easily, happily generalizations", ["The runner runs with ease: happy generalization"]),
    ("An answer, the ANSWER; a", ["answer answer", "the answer"]),
    ("the", ["a"]),
    ("U.S.A. e.g., v1.2-beta_3 [x]{y}|z\\w ~`^", ["U. S. A. eg v1.2 - beta 3 x y z w"]),
    ("a b c d e f g h i j k l m n o p", ["p o n m l k j i h g f e d c b a"]),
    ("x y x y x y", ["x y"]),
    ("one two three", ["one two three four", "one two"]),
    ("dying skies flies lying news innings happy cry", ["die sky fly lie new inning happily cries"]),
]


def _corrupted(text, generator):
    words = text.split()
    for _ in range(generator.randint(0, 4)):
        place = generator.randrange(len(words))
        match generator.randrange(4):
            case 0 if len(words) > 1:
                del words[place]
            case 1:
                words.insert(place, generator.choice(words))
            case 2:
                words[place] = words[place][::-1]
            case _:
                other = generator.randrange(len(words))
                words[place], words[other] = words[other], words[place]
    return " ".join(words)


def pairs() -> list[tuple[str, list[str]]]:
    """Return (hypothesis, references) for all texts; references are one or two, none of them empty."""
    generator = random.Random(0)
    zen = [(_corrupted(line, generator), [line, _corrupted(line, generator)]) for line in ZEN]
    return [(text, references[: 1 + i % 2]) for i, (text, references) in enumerate(zen)] + HOSTILE


def tagged(scheme: str, count: int = 40) -> tuple[list[list[str]], list[list[str]]]:
    """Return sentences of predicted and of true tags, random and therefore often malformed: BIO or IOBES tags."""
    generator = random.Random(scheme)
    tags = ["O"] + [f"{prefix}-{kind}" for prefix in scheme.replace("O", "") for kind in ("PER", "LOC")]
    true = [[generator.choice(tags) for _ in range(generator.randint(1, 12))] for _ in range(count)]
    return [[generator.choice(tags) if generator.random() < 0.3 else tag for tag in one] for one in true], true
