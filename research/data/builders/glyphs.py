"""Characters of five scripts, rendered from the twelve DejaVu fonts that matplotlib ships."""

import pathlib

import numpy as np
import tensorflow_datasets as tfds

# Letters and digits that all twelve fonts have, without those that are composed of others and without those that
# look like an earlier one (Latin, Greek and Cyrillic A): a mean difference below 10 of 255 in DejaVu Sans.
CHARACTERS = (
    "0123456789ABCDEFGHJKLMNOQRSTUVWXYZabcdefgikmnprstuvwyzÆÞßæðøþĦħĸŊŋŒœƁƄƆƇƈƊƋƍƎƏƐƑƒƓƔƕƘƛƜƝƢƣƤƦƧƨƩƪƫƬƮƱ"
    "ƳƴƷƸƹƺƼƽƾǁǂǶȜȝȡȤȥȴȵȸȹȻȾȿɀɁɐɔɕɖɗɚɠɣɤɥɦɧɬɮɯɰɱɲɴɶɷɸɹɻɽɿʀʁʂʆʇʊʋʌʍʐʑʓʔʕʗʚʜʝʞʣʤʥʦʧʨʩʪʫʬʭʮʯΔΠΦΨΩαβζθξπςυφχω"
    "ϗϘϚϞϟϠϡϺϻϼЂЉЊЋЏДЖИКЛУФЧШЩЪЫЮЯбджлмфцшщъыюяђљњћѣҐґҔҕҖҗҘҙҚқҢңҤҥҪҫҬҭұҲҳҺӃӄӇӈӋӌӶӷԲԳԵԶԸԹԺԻԽԾԿՀՁՂՃՅՆՇՉՊՎՐՓ"
    "ՔՖբգեէթխծձճմնչպջտֆაბგდეზთკლმოპჟრსტუფქღშჩცწჭჯჱჲჴჵჶჸჹᴂᴈᴔᴖᴗᴝᴞᴟᵷⱤⱭⱮⱰⱵⱶⱹⱾⱿꞐꞪ"
)
FONTS = tuple(
    f"DejaVu{family}{style}.ttf"
    for family, slanted in (("Sans", "Oblique"), ("SansMono", "Oblique"), ("Serif", "Italic"))
    for style in ("", "-Bold", f"-{slanted}", f"-Bold{slanted}")
)
COPIES = 2  # of every character in every font, each distorted in another way
SIZE, FINE = 28, 4  # pixels, and how many times finer they are drawn


class Glyphs(tfds.core.GeneratorBasedBuilder):
    """One split, "train": {"image": u8 [28, 28, 1] of 0 to 255 (ink), "label": the character, "font": its number}.

    24 images of each of 371 characters: every font twice, each time turned by up to 15 degrees, slanted, scaled by 0.8
    to 1.15, and shifted by up to 2 pixels. The distortions are those of a fixed seed.
    """

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "371 characters in 12 fonts."}

    def _info(self):
        return tfds.core.DatasetInfo(
            builder=self,
            description="Latin, Greek, Cyrillic, Armenian and Georgian characters and digits in the DejaVu fonts.",
            homepage="https://dejavu-fonts.github.io",
            features=tfds.features.FeaturesDict(
                {
                    # As a Tensor: encoding an Image needs TensorFlow.
                    "image": tfds.features.Tensor(shape=(SIZE, SIZE, 1), dtype=np.uint8, encoding="bytes"),
                    "label": tfds.features.ClassLabel(names=list(CHARACTERS)),
                    "font": tfds.features.ClassLabel(names=list(FONTS)),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples()}

    def _generate_examples(self):
        import matplotlib
        from PIL import ImageFont

        folder = pathlib.Path(matplotlib.get_data_path(), "fonts", "ttf")
        fonts = [ImageFont.truetype(str(folder / name), 22 * FINE) for name in FONTS]
        for label, character in enumerate(CHARACTERS):
            rng = np.random.default_rng([0, label])
            for copy in range(COPIES):
                for number, font in enumerate(fonts):
                    image = render(character, font, rng=rng)
                    key = (label * COPIES + copy) * len(fonts) + number
                    yield key, {"image": image[..., None], "label": label, "font": number}


def render(character: str, font, *, rng) -> np.ndarray:
    """The character in the middle of an image, distorted at random: u8 [28, 28], ink is 255."""
    from PIL import Image, ImageDraw

    side = SIZE * FINE
    image = Image.new("L", (side, side))
    left, top, right, bottom = font.getbbox(character)
    ImageDraw.Draw(image).text(((side - left - right) / 2, (side - top - bottom) / 2), character, font=font, fill=255)
    angle, slant = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(-0.2, 0.2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, slant], [0, 1]]) / rng.uniform(0.8, 1.15, 2)
    middle = np.full(2, side / 2)
    shift = middle - matrix @ (middle + rng.uniform(-2, 2, 2) * FINE)
    # PIL asks, for each pixel of the output, where it lies in the input.
    coefficients = [*matrix[0], shift[0], *matrix[1], shift[1]]
    image = image.transform((side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    return np.asarray(image.reduce(FINE))
