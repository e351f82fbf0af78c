"""Pascal VOC's annotations: one XML file per image (Everingham et al. 2010).

In the file, a box names its first and last pixel, counted from 1: xmin 1 and xmax 10 cover the pixels 0 to 10 of the
form. Some tools, such as CVAT, write the edges of a box from 0 instead: `edges=True`.
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from research.data.annotations import form
from research.data.annotations.form import Annotations, Instance, Picture
from research.data.readers import paths
from research.errors import UserError

MOST = 16 * 2**20  # bytes of a file
FLAGS = ("truncated", "occluded", "difficult")
UNWRITABLE = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff\ud800-\udfff]|^\\s|\\s$")


def read_voc(folder, *, classes: Sequence[str] | None = None, edges: bool = False, lossy: bool = False) -> Annotations:
    """Read all XML files below a folder, in the order of their paths.

    The files name classes but do not list them: `classes` are by default all names in sorted order. Attributes are
    pose, truncated, occluded and difficult. What describes the file (folder, source, owner, depth, segmented) is not
    read. Other parts of an object, such as body parts and actions, are an error, or with `lossy` a LostAnnotation
    warning. Raises UserError, with the file, for one that is damaged or declares a document type or entities.
    """
    files = sorted(paths.folder(folder, what="folder of annotations").rglob("*.xml"))
    if not files:
        raise UserError(f"{folder} has no XML files; expected one per image.")
    problems: list[str] = []
    roots = {file: _parsed(file) for file in files}
    if classes is None:
        classes = sorted({_text(one, "name", file) for file, root in roots.items() for one in root.findall("object")})
    numbers = {name: number for number, name in enumerate(classes)}
    pictures = []
    for file, root in roots.items():
        sides = [_number(root, f"size/{side}", file) for side in ("width", "height")]
        width, height = form.size(*(int(side) if side == int(side) else side for side in sides), place=str(file))
        instances = []
        for number, one in enumerate(root.findall("object")):
            place = f"{file}, object {number}"
            label = form.class_of(_text(one, "name", place), numbers, place=place)
            instances.append(Instance(label, _box(one, place, edges), attributes=_attributes(one, place)))
            problems += [f"the part <{part.tag}> of an object" for part in one
                         if part.tag not in ("name", "bndbox", "pose", *FLAGS)]  # fmt: skip
        name = form.safe_name(_text(root, "filename", file), place=str(file))
        pictures.append(Picture(name, width, height, tuple(instances)))
    form.lost(problems, what="the form of annotations", lossy=lossy)
    form.check_unique(pictures)
    return Annotations(tuple(classes), tuple(pictures))


def write_voc(annotations: Annotations, folder, *, edges: bool = False, lossy: bool = False) -> Path:
    """Write an XML file per image, named as the image; numbers and areas of COCO are not written.

    Raises UserError for polygons, masks, key points, skeletons, crowds and other attributes, which VOC cannot hold,
    unless `lossy`, and for a file that exists. The list of classes is not in the files: give it to `read_voc`.
    """
    form.check_unique(annotations.pictures, key=lambda name: str(PurePosixPath(name).with_suffix("")))
    problems, texts = ["the skeleton of a class"] * len(annotations.skeletons), {}
    for picture in annotations.pictures:
        name = form.safe_name(picture.name, place="an image")
        root = ET.Element("annotation")
        _add(root, "filename", name)
        size = ET.SubElement(root, "size")
        for key, value in (("width", picture.width), ("height", picture.height), ("depth", 3)):
            _add(size, key, str(value))
        for one in picture.instances:
            problems += form.unheld(one, polygons=False, keypoints=False, attributes=("pose", *FLAGS))
            node = ET.SubElement(root, "object")
            _add(node, "name", annotations.classes[one.label])
            for key in ("pose", *FLAGS):
                if key in one.attributes:
                    value = one.attributes[key]
                    _add(node, key, str(value) if key == "pose" else str(int(value)))
            corners = one.box if edges else one.box + [1, 1, 0, 0]
            bounds = ET.SubElement(node, "bndbox")
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
                _add(bounds, key, f"{round(float(value), form.DECIMALS):.15g}")
        ET.indent(root)
        texts[Path(folder, name).with_suffix(".xml")] = ET.tostring(root, encoding="unicode") + "\n"
    form.lost(problems, what="Pascal VOC", lossy=lossy)
    form.write_new(texts)
    return Path(folder)


def _add(parent, tag, text):
    if not text or UNWRITABLE.search(text):
        raise UserError(f"{tag} is {text!r}; XML cannot hold control characters, nor VOC spaces at the ends.")
    ET.SubElement(parent, tag).text = text


def _parsed(file) -> ET.Element:
    """Parse a file. Entities, which can expand to any size or read other files, are declared in a document type."""
    text = form.read_file(file, most=MOST)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise UserError(f"{file} declares a document type; expected plain XML without entities.")
    try:
        root = ET.fromstring(text)  # decoded already, thus no encoding can hide a declaration
    except (ValueError, ET.ParseError) as error:
        raise UserError(f"{file} is not XML: {error}.") from error
    if root.tag != "annotation":
        raise UserError(f"{file} has the root <{root.tag}>; expected <annotation> of Pascal VOC.")
    return root


def _text(node, path, place) -> str:
    text = (node.findtext(path) or "").strip()
    if not text:
        raise UserError(f"{place} has no <{path}>; expected a text.")
    return text


def _number(node, path, place) -> float:
    text = _text(node, path, place)
    try:
        return form.points([float(text)], columns=1, place=f"{place}, <{path}>")[0, 0].item()
    except ValueError:
        raise UserError(f"{place}: <{path}> is {text!r}; expected a number.") from None


def _box(node, place, edges):
    x1, y1, x2, y2 = (_number(node, f"bndbox/{key}", place) for key in ("xmin", "ymin", "xmax", "ymax"))
    return form.box([x1, y1, x2, y2] if edges else [x1 - 1, y1 - 1, x2, y2], place=place)


def _attributes(node, place) -> Mapping[str, bool | str]:
    found: dict = {"pose": _text(node, "pose", place)} if node.find("pose") is not None else {}
    for key in FLAGS:
        if node.find(key) is not None:
            if (text := _text(node, key, place)) not in ("0", "1"):
                raise UserError(f"{place}: <{key}> is {text!r}; expected 0 or 1.")
            found[key] = text == "1"
    return found
