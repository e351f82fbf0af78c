"""COCO's object annotations: boxes, polygons, masks and key points in one JSON file (Lin et al. 2014).

The format is described at https://cocodataset.org/#format-data. Key points and their edges are numbered from 1 in the
file. Attributes are written as the object `attributes` of an annotation, as CVAT does.
"""

import json
import reprlib
from pathlib import Path

import numpy as np

from research.data.annotations import form
from research.data.annotations.form import Annotations, Instance, Mask, Picture, Skeleton
from research.errors import UserError

READ = {"id", "image_id", "category_id", "bbox", "segmentation", "keypoints", "num_keypoints", "iscrowd", "attributes",
        "area"}  # fmt: skip


def read_coco(path, *, lossy: bool = False) -> Annotations:
    """Read COCO's instances or person key points.

    What describes files or the set (info, licenses, addresses, dates, super-categories) is not read. Any other entry of
    an annotation is an error, or with `lossy` a LostAnnotation warning. Raises UserError, with the annotation, for a
    file that is damaged or contradicts itself.
    """
    content = form.read_annotation_json(path)
    tables = {name: _table(content, name, path) for name in ("categories", "images", "annotations")}
    classes, skeletons = [], {}
    for at, category in enumerate(tables["categories"]):
        name = category.get("name")
        if not isinstance(name, str) or name in classes:
            raise UserError(f"{path}, category {at}: the name {name!r}; expected texts, each once.")
        classes.append(name)
        if category.get("keypoints"):
            skeletons[name] = _skeleton(category, f"{path}, category {name!r}")
    places = {category["id"]: i for i, category in enumerate(tables["categories"])}
    pictures, instances = {}, {}
    for image in tables["images"]:
        number = image["id"]
        place = f"{path}, image {number}"
        width, height = form.size(image.get("width"), image.get("height"), place=place)
        pictures[number] = Picture(form.safe_name(image.get("file_name"), place=place), width, height, id=number)
        instances[number] = []
    form.check_unique(pictures.values())
    problems: list[str] = []
    for annotation in tables["annotations"]:
        place = f"{path}, annotation {annotation['id']}"
        image, category = annotation.get("image_id"), annotation.get("category_id")
        if not isinstance(image, int) or image not in pictures:
            raise UserError(f"{place}: the image_id {image!r} is none of the {len(pictures)} images.")
        if not isinstance(category, int) or category not in places:
            raise UserError(f"{place}: unknown category_id {category!r}. {_nearest(category, places, classes)}")
        problems += [f"the entry {name!r} of an annotation" for name in annotation if name not in READ]
        found = _instance(annotation, pictures[image], place)
        name = classes[places[category]]
        expected = len(skeletons[name].names) if name in skeletons else None
        if found.keypoints is not None and len(found.keypoints) != expected:
            raise UserError(f"{place}: {len(found.keypoints)} key points; the class {name!r} has {expected or 'none'}.")
        instances[image].append(found._replace(label=places[category]))
    form.lost(problems, what="the form of annotations", lossy=lossy)
    found = tuple(picture._replace(instances=tuple(instances[number])) for number, picture in pictures.items())
    return Annotations(tuple(classes), found, skeletons, tuple(places))


def write_coco(annotations: Annotations, path) -> Path:
    """Write COCO's JSON, which holds everything; missing numbers continue from the largest one.

    The area of an instance without one is that of its mask, polygons or box. Raises UserError if the file exists.
    """
    form.check_unique(annotations.pictures)
    names = list(annotations.classes)
    categories = list(annotations.class_ids or range(1, len(names) + 1))
    images = _numbers([picture.id for picture in annotations.pictures])
    numbers = iter(_numbers([one.id for picture in annotations.pictures for one in picture.instances]))
    content: dict = {"images": [], "annotations": [], "categories": []}
    for name, number in zip(names, categories, strict=True):
        entry = {"id": number, "name": name}
        if skeleton := annotations.skeletons.get(name):
            entry |= {"keypoints": skeleton.names, "skeleton": [[a + 1, b + 1] for a, b in skeleton.edges]}
        content["categories"].append(entry)
    for picture, image in zip(annotations.pictures, images, strict=True):
        name = form.safe_name(picture.name, place="an image")
        content["images"].append({"id": image, "file_name": name, "width": picture.width, "height": picture.height})
        for one in picture.instances:
            ids = {"id": next(numbers), "image_id": image, "category_id": categories[one.label]}
            content["annotations"].append({**ids, **_entry(one)})
    form.write_new({Path(path): json.dumps(content, ensure_ascii=False, allow_nan=False)})
    return Path(path)


def _table(content, name, path) -> list[dict]:
    """Return one of the lists of the file, whose objects have different numbers."""
    rows = content.get(name) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path} has no list of objects {name!r}; expected images, annotations and categories of COCO.")
    seen = set()
    for at, row in enumerate(rows):
        number = row.get("id")
        if isinstance(number, bool) or not isinstance(number, int) or number in seen:
            raise UserError(f"{path}, {name}[{at}]: the id {number!r}; expected integers, each once.")
        seen.add(number)
    return rows


def _skeleton(category, place) -> Skeleton:
    names, edges = category["keypoints"], category.get("skeleton") or []
    try:
        found = Skeleton(tuple(names), tuple((int(a) - 1, int(b) - 1) for a, b in edges))
    except (TypeError, ValueError) as error:
        raise UserError(f"{place}: the skeleton {reprlib.repr(edges)}; expected pairs of numbers from 1.") from error
    ends = [end for edge in found.edges for end in edge]
    if not all(isinstance(name, str) for name in found.names) or not all(0 <= end < len(names) for end in ends):
        raise UserError(f"{place}: expected texts as key points, and edges from 1 to {len(names)}.")
    return found


def _nearest(category, places, classes) -> str:
    if not isinstance(category, int) or not places:
        return f"Valid: {', '.join(map(str, places)) or 'none'}."
    number = min(places, key=lambda known: abs(known - category))
    return f"The nearest of the {len(places)} categories is {number} ({classes[places[number]]!r})."


def _instance(annotation, picture, place) -> Instance:
    polygons, mask, drawn = (), None, annotation.get("segmentation") or []
    if isinstance(drawn, dict):
        mask = _mask(drawn, picture, place)
    elif isinstance(drawn, list):
        polygons = tuple(form.polygon(values, place=place) for values in drawn)
    else:
        raise UserError(f"{place}: a segmentation of type {type(drawn).__name__}; expected polygons or run lengths.")
    given = form.points(annotation.get("bbox", []), columns=4, place=f"{place}, bbox")
    if len(given) != 1:
        raise UserError(f"{place}: the bbox {reprlib.repr(annotation.get('bbox'))}; expected [x, y, width, height].")
    x, y, width, height = given[0]
    keypoints = None
    if annotation.get("keypoints") is not None:
        keypoints = form.points(annotation["keypoints"], columns=3, place=f"{place}, keypoints")
        if not np.isin(keypoints[:, 2], (0, 1, 2)).all():
            raise UserError(f"{place}: a visibility of {keypoints[:, 2].tolist()}; expected 0, 1 or 2.")
    attributes, area = annotation.get("attributes", {}), annotation.get("area")
    if not isinstance(attributes, dict) or not all(
        isinstance(x, bool | int | float | str) for x in attributes.values()
    ):
        raise UserError(f"{place}: the attributes {reprlib.repr(attributes)}; expected an object of texts and numbers.")
    if area is not None and not (isinstance(area, int | float) and 0 <= area < float("inf")):
        raise UserError(f"{place}: the area {area!r}; expected a number of at least 0.")
    if (crowd := annotation.get("iscrowd", 0)) not in (0, 1):
        raise UserError(f"{place}: iscrowd is {crowd!r}; expected 0 or 1.")
    corners = form.box([x, y, x + width, y + height], place=f"{place}, bbox")
    return Instance(0, corners, polygons, mask, keypoints, bool(crowd), attributes, area, annotation["id"])


def _mask(drawn, picture, place) -> Mask:
    counts, given = drawn.get("counts"), drawn.get("size")
    width, height = picture.width, picture.height
    if given != [height, width]:
        raise UserError(f"{place}: a mask of size {reprlib.repr(given)}; the image has {[height, width]}.")
    counts = _unpacked(counts, place) if isinstance(counts, str) else counts
    valid = isinstance(counts, list) and all(type(n) is int and n >= 0 for n in counts)
    if not valid or sum(counts) != width * height:
        total = sum(counts) if valid else "no list of numbers from 0"
        raise UserError(f"{place}: the run lengths sum to {total}; expected {width * height}, the pixels of the image.")
    return Mask(height, width, np.array(counts, np.int64))


def _unpacked(text: str, place) -> list[int]:
    """Return the run lengths of a text: digits of 5 bits, a sign in the last, differences from the fourth number on."""
    counts: list[int] = []
    value = shift = 0
    for character in text:
        digit = ord(character) - 48
        if not 0 <= digit < 64 or shift > 45:
            raise UserError(f"{place}: the run lengths have {character!r} at number {len(counts)}; they are damaged.")
        value |= (digit & 31) << shift
        shift += 5
        if not digit & 32:
            value -= (1 << shift) if digit & 16 else 0
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value = shift = 0
    if shift:
        raise UserError(f"{place}: the run lengths end in the middle of a number; they are damaged.")
    return counts


def _numbers(given):
    free = max((number for number in given if number is not None), default=0)
    result = []
    for number in given:
        free += number is None
        result.append(free if number is None else number)
    return result


def _entry(one: Instance) -> dict:
    x1, y1, x2, y2 = map(float, one.box)
    sides = [round(x2 - x1, form.DECIMALS), round(y2 - y1, form.DECIMALS)]
    entry: dict = {"bbox": [x1, y1, *sides], "area": _area(one, sides), "iscrowd": int(one.crowd)}
    if one.mask is not None:
        entry["segmentation"] = {"size": [one.mask.height, one.mask.width], "counts": one.mask.counts.tolist()}
    else:
        entry["segmentation"] = [polygon.ravel().tolist() for polygon in one.polygons]
    if one.keypoints is not None:
        entry["keypoints"] = one.keypoints.ravel().tolist()
        entry["num_keypoints"] = int((one.keypoints[:, 2] > 0).sum())
    return entry | ({"attributes": dict(one.attributes)} if one.attributes else {})


def _area(one, sides) -> float:
    if one.area is not None:
        return one.area
    if one.mask is not None:
        return float(one.mask.counts[1::2].sum())
    if not one.polygons:
        return sides[0] * sides[1]
    crossed = lambda p: abs(np.sum(p[:, 0] * np.roll(p[:, 1], -1) - p[:, 1] * np.roll(p[:, 0], -1))) / 2
    return float(sum(crossed(polygon) for polygon in one.polygons))
