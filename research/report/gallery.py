"""The gallery of worst errors of an evaluation: wrong predictions with the highest loss, each with its input."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from research.errors import UserError
from research.html import marks
from research.html.chart import Axis, chart, save
from research.html.markup import Html, element, format_number, inline_image, join, percent, png_uri, shortened

COLUMNS, LIMIT, SIDE = 6, 24, 128  # larger images are scaled down to SIDE pixels on the page
LONGEST = 400  # characters shown of a text


class Wrong(NamedTuple):
    """One wrong prediction: index of the record, both classes, and confidence and loss (None if not stored)."""

    index: int
    label: int
    prediction: int
    confidence: float | None
    loss: float | None


def worst(rows, *, limit: int = LIMIT) -> list[Wrong]:
    """Return the wrong predictions with the highest loss, worst first, from rows {name: [N]}.

    A NaN loss counts as infinite and comes first. Without losses, the most confident errors come first. Ties are in
    order of the index.
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
    """Render the worst errors as HTML, and as an SVG file at `path` if the records are images.

    `rows` are per example, {"label", "prediction", ...: [N]}, in the order of `data`. The records of `data` hold an
    "image" [H, W, C], a "text", or "tokens" that `data.decode(tokens)` converts to text. Returns a remark with the
    reason if the gallery cannot be drawn.
    """
    if reason := _unfit(rows, data):
        return _none(reason)
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
    order = "highest loss" if rows.get("loss") is not None else "most confident"
    intro = element("p", f"{total} of {len(rows['label'])} predictions are wrong. {order.capitalize()} first:")
    if all("image" in record for record in records):
        images = pixels([record["image"] for record in records])
        uris = [data_uri(image) for image in images]
        if path is not None:
            _write(images, uris, wrong, name, path)
        image_elements = [inline_image(uri, alt=f"record {w.index}") for uri, w in zip(uris, wrong, strict=True)]
        cards = [element("figure", image, _caption(w, name)) for image, w in zip(image_elements, wrong, strict=True)]
        return intro + element("div", *cards, class_="gallery")
    texts = [record_text(record, getattr(data, "decode", None)) for record in records]
    if None in texts:
        return _none(f"the records hold {', '.join(sorted(records[0]))}, but neither an image nor a text")
    cards = [element("figure", element("blockquote", t), _caption(w, name)) for t, w in zip(texts, wrong, strict=True)]
    return intro + element("div", *cards, class_="quotes")


def pixels(images) -> list[np.ndarray]:
    """Convert images [H, W] or [H, W, C] of any numeric type to uint8 [H, W] or [H, W, 3].

    All images share one scale, from the lowest to the highest finite value among them, so that digits from 0 to 16 and
    standardised photographs are as visible as bytes. NaN becomes black. A fourth channel is dropped. Images with 1, 2
    or more than 4 channels are averaged over the channels.
    """
    images = [np.asarray(image, np.float32) for image in images]
    finite = np.concatenate([image[np.isfinite(image)].ravel() for image in images])
    low, high = (finite.min(), finite.max()) if finite.size else (0, 1)
    converted = []
    for image in images:
        scaled = np.nan_to_num((image - low) / max(high - low, 1e-9), nan=0.0, posinf=1.0, neginf=0.0)
        if scaled.ndim == 3:
            scaled = scaled[..., :3] if scaled.shape[-1] in (3, 4) else scaled.mean(axis=-1)
        converted.append((np.clip(scaled, 0, 1) * 255).round().astype(np.uint8))
    return converted


def _none(reason) -> Html:
    return element("p", f"No gallery of the worst errors: {str(reason).rstrip('.')}.", class_="remark")


def _column(rows, name) -> np.ndarray | None:
    return None if rows.get(name) is None else np.asarray(rows[name], float)


def _unfit(rows, data) -> str | None:
    """Return why the gallery cannot be drawn, or None if it can."""
    label, prediction = rows.get("label"), rows.get("prediction")
    if label is None or prediction is None:
        return "the evaluation did not store a label and a prediction per example"
    if label.ndim != 1 or prediction.shape != label.shape:
        return f"it needs a label and a prediction per example; got {list(label.shape)} and {list(prediction.shape)}"
    if data is None:
        return "the records are not available; pass the experiment to show them"
    if len(data) != len(label):
        return f"{len(label)} examples were evaluated, but the data set holds {len(data)}"
    return None


def record_text(record, decode=None) -> str | None:
    """Return the text of a record, shortened; of its tokens if `decode` converts them; otherwise None."""
    text = record.get("text")
    if text is None and "tokens" in record and decode is not None:
        text = decode(record["tokens"])
    if isinstance(text, np.ndarray):
        text = text.item()
    if isinstance(text, bytes):
        text = text.decode("utf-8", "replace")
    return None if text is None else shortened(text, LONGEST)


def _caption(wrong, name) -> Html:
    measures = [f"loss {format_number(wrong.loss)}"] * (wrong.loss is not None)
    measures += ["confidence " + percent(wrong.confidence)] * (wrong.confidence is not None)
    lines = [
        join([prefix, element("b", name(label))])
        for prefix, label in (("true ", wrong.label), ("predicted ", wrong.prediction))
    ]
    lines += [element("span", line, class_="faint") for line in (*measures, f"record {wrong.index}")]
    return element("figcaption", *[element("div", line) for line in lines])


def data_uri(image) -> str:
    """Return uint8 pixels [H, W] or [H, W, 3] as a PNG in a data URI, scaled down to SIDE."""
    from PIL import Image

    picture = Image.fromarray(image)
    picture.thumbnail((SIDE, SIDE))
    return png_uri(np.asarray(picture))


def _write(images, uris, wrong, name, path):
    """Write the images with captions as one file."""
    columns = min(COLUMNS, len(images))
    rows = -(-len(images) // columns)
    drawn = []
    for place, (image, uri, item) in enumerate(zip(images, uris, wrong, strict=True)):
        left, top = 1.15 * (place % columns), 1.4 * (place // columns) + 0.35  # in widths of an image
        height, width = (side / max(image.shape[:2]) for side in image.shape[:2])
        drawn.append(marks.image(uri, x=(left, left + width), y=(top, top + height)))
        sure = "" if item.confidence is None else f" ({100 * item.confidence:.0f} %)"
        words = f"true {shortened(name(item.label), 20)}", f"predicted {shortened(name(item.prediction), 13)}{sure}"
        drawn += [marks.label(left, top - 0.23 + 0.13 * i, words[i], anchor="start") for i in (0, 1)]
    x, y = Axis(limits=(-0.08, 1.15 * columns - 0.08)), Axis(limits=(0, 1.4 * rows), down=True)
    size = {"inner": 155 * columns, "height": 190 * rows, "frame": False, "grid": False}
    save([chart(drawn, label="the worst errors", x=x, y=y, **size)], path)
