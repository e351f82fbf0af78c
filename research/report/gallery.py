"""The worst errors of an evaluation: the wrong predictions that cost most, each with what it was made from."""

import base64
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.errors import UserError
from research.html.figure import new_figure, style, write_png
from research.html.markup import Html, element, format_number, inline_image, join, percent, shortened

COLUMNS, LIMIT, SIDE = 6, 24, 128  # SIDE in pixels: larger images are made smaller before they go on the page
LONGEST = 400  # characters of a text


class Wrong(NamedTuple):
    """One wrong prediction: the record's index, both classes, and confidence and loss where they were kept."""

    index: int
    label: int
    prediction: int
    confidence: float | None
    loss: float | None


def worst(rows, *, limit: int = LIMIT) -> list[Wrong]:
    """The wrong predictions with the highest loss, worst first, from rows {name: [N]}.

    A loss that is no number comes first. Without losses, the most confident come first; ties go by index.
    """
    label, prediction = np.asarray(rows["label"]), np.asarray(rows["prediction"])
    loss, confidence = (_column(rows, name) for name in ("loss", "confidence"))
    wrong = np.flatnonzero(label != prediction)
    weight = loss if loss is not None else confidence if confidence is not None else np.zeros(len(label))
    weight = np.where(np.isnan(weight), np.inf, weight)
    order = wrong[np.argsort(-weight[wrong], kind="stable")][:limit]

    def at(values, i):
        return None if values is None else float(values[i])

    return [Wrong(int(i), int(label[i]), int(prediction[i]), at(confidence, i), at(loss, i)) for i in order]


def gallery(rows, data, *, names: Sequence[str] | None = None, path=None) -> Html:
    """The worst errors as HTML, and as a PNG at `path` where they are images; else a line that says why not.

    `rows` are per example, {"label", "prediction", ...: [N]}, in the order of `data`, whose records hold an
    "image" [H, W, C], a "text", or "tokens" where `data.decode(tokens)` makes them a text.
    """
    if why := _unfit(rows, data):
        return _none(why)
    wrong = worst(rows)
    if not wrong:
        return element("p", "No prediction is wrong.")
    try:
        records = [data[item.index] for item in wrong]
    except (UserError, OSError, LookupError) as error:
        return _none(f"the data cannot be read: {error}")

    def name(label):
        return str(names[label]) if names is not None and 0 <= label < len(names) else str(label)

    total = int((np.asarray(rows["label"]) != np.asarray(rows["prediction"])).sum())
    which = "highest loss" if rows.get("loss") is not None else "most confident"
    intro = element("p", f"{total} of {len(rows['label'])} predictions are wrong. {which.capitalize()} first:")
    if all("image" in record for record in records):
        images = pixels([record["image"] for record in records])
        if path is not None:
            _write(images, wrong, name, path)
        shown = [
            inline_image(_data_uri(image), alt=f"record {w.index}") for image, w in zip(images, wrong, strict=True)
        ]
        cards = [element("figure", image, _caption(w, name)) for image, w in zip(shown, wrong, strict=True)]
        return intro + element("div", *cards, class_="gallery")
    texts = [_text(record, data) for record in records]
    if None in texts:
        return _none(f"records hold {', '.join(sorted(records[0]))}, not an image or a text")
    cards = [element("figure", element("blockquote", t), _caption(w, name)) for t, w in zip(texts, wrong, strict=True)]
    return intro + element("div", *cards, class_="quotes")


def pixels(images) -> list[np.ndarray]:
    """Images [H, W], or [H, W, C] of any number type, as uint8 [H, W] or [H, W, 3].

    They share one scale, from the lowest to the highest value among them: digits from 0 to 16 and standardised
    photographs are as visible as bytes. Of two channels, or more than four, the mean is shown.
    """
    images = [np.asarray(image, np.float32) for image in images]
    sound = np.concatenate([image[np.isfinite(image)].ravel() for image in images])
    low, high = (sound.min(), sound.max()) if sound.size else (0, 1)
    made = []
    for image in images:
        scaled = np.nan_to_num((image - low) / max(high - low, 1e-9), nan=0.0, posinf=1.0, neginf=0.0)
        if scaled.ndim == 3:
            scaled = scaled[..., :3] if scaled.shape[-1] in (3, 4) else scaled.mean(axis=-1)
        made.append((np.clip(scaled, 0, 1) * 255).round().astype(np.uint8))
    return made


def _none(why) -> Html:
    return element("p", f"No gallery of the worst errors: {str(why).rstrip('.')}.", class_="remark")


def _column(rows, name) -> np.ndarray | None:
    return None if rows.get(name) is None else np.asarray(rows[name], float)


def _unfit(rows, data) -> str | None:
    """Why there can be no gallery, if so."""
    label, prediction = rows.get("label"), rows.get("prediction")
    if label is None or prediction is None:
        return "the evaluation kept no label and prediction for each example"
    if label.ndim != 1 or prediction.shape != label.shape:
        return f"it needs a label and a prediction an example, not {list(label.shape)} and {list(prediction.shape)}"
    if data is None:
        return "the records are not at hand, since the experiment or its data set was not given"
    if len(data) != len(label):
        return f"{len(label)} examples were evaluated, but the data set holds {len(data)}"
    return None


def _text(record, data) -> str | None:
    text = record.get("text")
    if text is None and "tokens" in record and hasattr(data, "decode"):
        text = data.decode(record["tokens"])
    if isinstance(text, np.ndarray):
        text = text.item()
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return None if text is None else shortened(text, LONGEST)


def _caption(wrong, name) -> Html:
    figures = [f"loss {format_number(wrong.loss)}"] * (wrong.loss is not None)
    figures += [percent(wrong.confidence) + " sure"] * (wrong.confidence is not None)
    lines = [
        join([word, element("b", name(label))])
        for word, label in (("true ", wrong.label), ("predicted ", wrong.prediction))
    ]
    lines += [element("span", line, class_="faint") for line in (*figures, f"record {wrong.index}")]
    return element("figcaption", *[element("div", line) for line in lines])


def _data_uri(image) -> str:
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((SIDE, SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _write(images, wrong, name, path):
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    width, height = 1.15, 1.4  # of a cell, in widths of an image
    with style():
        # One axes with everything at its place: two dozen of them take seconds to lay out.
        sheet, (ax,) = new_figure(1.5 * width * columns, 1.5 * height * rows)
        sheet.set_layout_engine("none")
        ax.set_position((0, 0, 1, 1))
        ax.set_axis_off()
        for at, (image, item) in enumerate(zip(images, wrong, strict=True)):
            left, top = width * (at % columns) + 0.075, height * (at // columns) + 0.33
            high, wide = (side / max(image.shape[:2]) for side in image.shape[:2])
            ax.imshow(image, cmap="gray", vmin=0, vmax=255, extent=(left, left + wide, top + high, top))
            sure = "" if item.confidence is None else f"  {100 * item.confidence:.0f} %"
            caption = f"true {shortened(name(item.label), 20)}\npredicted {shortened(name(item.prediction), 13)}{sure}"
            ax.text(left, top - 0.03, caption, fontsize=7.5, va="bottom")
        ax.set_xlim(0, width * columns)
        ax.set_ylim(height * rows, 0)
        write_png(sheet, path)
