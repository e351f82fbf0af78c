"""Characters of five scripts, rendered from the twelve DejaVu fonts that matplotlib ships."""

import pathlib

import numpy as np
import tensorflow_datasets as tfds

from research.errors import UserError

# Letters and digits that all twelve fonts contain. Composed letters are excluded. So are letters that look like an
# earlier one, such as Latin, Greek and Cyrillic A: their mean pixel difference in DejaVu Sans is below 10 of 255.
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
COPIES = 2  # images per character and font, with different distortions
SIZE, FINE = 28, 4  # side in pixels, and the supersampling factor of rendering


class Glyphs(tfds.core.GeneratorBasedBuilder):
    """One split, "train": {"image": u8 [28, 28, 1] (255 is ink), "label": class of the character, "font": class}.

    Each of the 371 characters has 24 images, two per font. Each image is rotated by up to 15 degrees, slanted, scaled
    by 0.8 to 1.15, and shifted by up to 2 pixels. The seed of the distortions is fixed.
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
                    # A Tensor, because TFDS needs TensorFlow to encode an Image.
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
        from PIL import ImageFont

        try:
            import matplotlib
        except ImportError as error:
            raise UserError(
                "the fonts of the glyphs need the extra: pip install -e '.[data]' in the project's folder."
            ) from error

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
    """Render a character at the centre of an image, with random distortion: u8 [28, 28], ink is 255."""
    from PIL import Image, ImageDraw

    side = SIZE * FINE
    image = Image.new("L", (side, side))
    left, top, right, bottom = font.getbbox(character)
    ImageDraw.Draw(image).text(((side - left - right) / 2, (side - top - bottom) / 2), character, font=font, fill=255)
    angle, slant = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(-0.2, 0.2)
    rotation = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = rotation @ np.array([[1, slant], [0, 1]]) / rng.uniform(0.8, 1.15, 2)
    center = np.full(2, side / 2)
    shift = center - matrix @ (center + rng.uniform(-2, 2, 2) * FINE)
    # PIL's coefficients map output pixels to input pixels.
    coefficients = [*matrix[0], shift[0], *matrix[1], shift[1]]
    image = image.transform((side, side), Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
    return np.asarray(image.reduce(FINE))
