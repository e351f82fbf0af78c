"""The network of the package g2p-en, which pronounces English words (Park & Kim 2019), for `models.seq2seq`."""

import io
import os
import pathlib
import string

import numpy as np

from research.core import Tree
from research.data.readers.packages import Package, package_files

PACKAGE = Package(
    client="pip",
    name="g2p-en",
    version="2.1.0",
    files=("g2p_en/checkpoint20.npz",),
    sha256="8e31352c3fbc19594cb06bdeacad6a518044fd33d411c9b47a35990c00d47b12",
)
VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
CONSONANTS = "B CH D DH F G HH JH K L M N NG P R S SH T TH UW V W Y Z ZH".split()  # and a vowel without a stress
# The vocabularies, in the order of the token numbers. A word ends with </s>; a pronunciation starts with <s>.
GRAPHEMES = ("<pad>", "<unk>", "</s>", *string.ascii_lowercase)
PHONEMES = (
    "<pad>", "<unk>", "<s>", "</s>", *sorted([*CONSONANTS, *(vowel + stress for vowel in VOWELS for stress in "012")])
)  # fmt: skip


def g2p_en(*, cache=None) -> Tree:
    """Return the params of `PlainSeq2Seq()` from g2p-en, which was trained on CMUdict. Apache-2.0 licence.

    Its client pip downloads 3 MB into `cache`, by default `downloads` of the data folder.
    """
    data_dir = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    (content,) = package_files(PACKAGE, cache or pathlib.Path(data_dir).expanduser() / "downloads").values()
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        return params_of({name: file[name] for name in file.files})


def params_of(arrays: dict[str, np.ndarray]) -> Tree:
    """Return the params of `PlainSeq2Seq` from the arrays of g2p-en, which are in PyTorch's layout."""
    linear = lambda weight, bias: {"kernel": arrays[weight].T, "bias": arrays[bias]}

    def gru(part):
        names = {"input": "ih", "recurrent": "hh"}
        return {ours: linear(f"{part}_w_{theirs}", f"{part}_b_{theirs}") for ours, theirs in names.items()}

    return {
        "source_embed": {"embedding": arrays["enc_emb"]}, "encoder": gru("enc"),
        "embed": {"embedding": arrays["dec_emb"]}, "cell": gru("dec"), "head": linear("fc_w", "fc_b"),
    }  # fmt: skip
