"""Annotation files: read as third-party libraries read them, converted without loss, refused if they are hostile."""

import json

import numpy as np
import pytest
from PIL import Image

from research.data.annotations import (
    Annotations,
    Instance,
    LostAnnotation,
    Picture,
    Skeleton,
    read_coco,
    read_label_studio,
    read_voc,
    read_yolo,
    write_coco,
    write_label_studio,
    write_voc,
    write_yolo,
)
from research.errors import UserError
from tests.data.annotations import files
from tests.truth import load

TRUTH = load("annotations")


def same(one, other):
    np.testing.assert_equal(one, other)  # also the arrays within tuples


def instance(label, *corners, **more):
    return Instance(label, np.array(corners, np.float64), **more)


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


# Places with many digits, at both ends and near each other, in an image whose sides divide nothing.
BOXES = Annotations(
    ("person", "dog"),
    (
        Picture("a.jpg", 486, 333, (instance(0, 0, 0, 486, 333), instance(1, 10.37, 20.123456, 10.370001, 333))),
        Picture("b.jpg", 7, 7),
        Picture("sub/c.jpg", 1, 999_983, (instance(1, 0.1, 0.3, 0.7, 999_982.999999),)),
    ),
)
OUTLINE = np.array([[1.5, 2], [400.123457, 2], [300, 332.999999], [1.5, 9.1]])
OUTLINES = BOXES._replace(
    pictures=(Picture("a.jpg", 486, 333, (instance(0, 1.5, 2, 400.123457, 332.999999, polygons=(OUTLINE,)),)),)
)
POINTS = Annotations(
    ("dog", "person"),
    (
        Picture(
            "a.jpg", 486, 333,
            (
                instance(1, 1, 2, 30, 40, keypoints=np.array([[3.3, 4.7, 2], [0, 0, 0], [29.999999, 2, 2]])),
                instance(1, 3, 2, 30, 40, keypoints=np.array([[0, 0, 0], [5, 5, 2], [0, 0, 0]])),
            ),
        ),
    ),
    {"person": Skeleton(("nose", "left hand", "right hand"))},
)  # fmt: skip
SIZES = {picture.name: (picture.width, picture.height) for picture in BOXES.pictures}


def through_coco(found, folder):
    read = read_coco(write_coco(found, folder / "coco.json"))
    numbered = [p._replace(id=None, instances=tuple(i._replace(id=None, area=None) for i in p.instances))
                for p in read.pictures]  # fmt: skip
    return read._replace(pictures=tuple(numbered), class_ids=None)


def through_voc(found, folder):
    return read_voc(write_voc(found, folder / "voc"), classes=found.classes)


def through_yolo(found, folder):
    return read_yolo(write_yolo(found, folder / "yolo"), sizes={p.name: SIZES[p.name] for p in found.pictures})


def through_label_studio(found, folder):
    path = write_label_studio(found, folder / "tasks.json")
    return read_label_studio(path, classes=found.classes, skeletons=found.skeletons)


@pytest.mark.parametrize("through", [through_coco, through_voc, through_yolo, through_label_studio])
@pytest.mark.parametrize("found", [BOXES, OUTLINES, POINTS], ids=["boxes", "polygons", "points"])
def test_what_a_format_holds_comes_back_exactly(tmp_path, through, found):
    if through is through_voc and found is not BOXES:
        with pytest.raises(UserError, match=r"Pascal VOC cannot hold .*(a polygon \(1 times\)|key points \(2 times\))"):
            through(found, tmp_path)
        return
    same(through(found, tmp_path), found)


def test_a_chain_of_conversions_changes_nothing(tmp_path):
    found = BOXES
    for number, through in enumerate([through_coco, through_voc, through_yolo, through_label_studio, through_voc]):
        found = through(found, tmp_path / str(number))
    same(found, BOXES)


@pytest.fixture
def coco(tmp_path):
    return write(tmp_path / "in.json", files.COCO)


def test_coco_is_read_as_pycocotools_reads_it(coco, tmp_path):
    found = read_coco(coco)
    assert found.classes == ("cat", "person") and found.class_ids == (3, 7)
    assert found.skeletons == {"person": Skeleton(("nose", "left hand", "right hand"), ((0, 1), (0, 2)))}
    (cat, crowd), (person,) = (picture.instances for picture in found.pictures)
    np.testing.assert_array_equal(cat.box, [1.5, 2, 18.25, 9.75])
    np.testing.assert_array_equal(crowd.mask.pixels(), TRUTH["mask_9"])
    assert crowd.crowd and not cat.crowd and person.attributes == {"occluded": True, "age": 41}
    np.testing.assert_array_equal(person.keypoints, [[480, 400.5, 2], [0, 0, 0], [500.25, 410, 1]])
    assert [len(outline) for outline in person.polygons] == [3, 3] and (cat.area, person.id) == (101.5, 4)
    # The file comes back, apart from what describes the set.
    written = json.loads(write_coco(found, tmp_path / "out.json").read_text())
    given = json.loads(files.COCO)
    given["categories"][0].pop("supercategory")
    by_id = lambda rows: sorted(rows, key=lambda row: row["id"])
    for name in ("images", "annotations", "categories"):
        assert by_id(written[name]) == by_id(given[name]), name


def test_packed_run_lengths_are_those_of_pycocotools(tmp_path):
    text = str(TRUTH["packed_runs"])
    same(
        read_coco(write(tmp_path / "p.json", json.dumps(files.coco(text)))),
        read_coco(write(tmp_path / "c", files.COCO)),
    )
    drawn = TRUTH["drawn"]
    content = {
        "images": [{"id": 1, "file_name": "a.png", "width": 70, "height": 30}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 70, 30],
                         "segmentation": {"size": [30, 70], "counts": str(TRUTH["packed"])}}],
    }  # fmt: skip
    mask = read_coco(write(tmp_path / "d.json", json.dumps(content))).pictures[0].instances[0].mask
    np.testing.assert_array_equal(mask.pixels(), drawn)
    found = read_coco(tmp_path / "d.json")
    assert (
        json.loads(write_coco(found, tmp_path / "e.json").read_text())["annotations"][0]["area"] == TRUTH["packed_area"]
    )


def test_voc_and_yolo_are_read_as_supervision_reads_them(tmp_path):
    write(tmp_path / "voc" / "a.xml", files.VOC)
    found = read_voc(tmp_path / "voc")
    (picture,) = found.pictures
    assert (picture.name, picture.width, picture.height) == ("2007_000027.jpg", 486, 500)
    np.testing.assert_allclose([one.box for one in picture.instances], TRUTH["voc_boxes"], rtol=1e-6)
    assert [found.classes[one.label] for one in picture.instances] == TRUTH["voc_names"].tolist()
    assert picture.instances[1].attributes == {"pose": "Left", "truncated": True, "difficult": True}
    same(through_voc(found, tmp_path / "again"), found)
    edges = read_voc(tmp_path / "voc", edges=True).pictures[0].instances
    np.testing.assert_array_equal(edges[0].box, [174, 101, 349, 351])
    for name, text in (("boxes", files.YOLO_BOXES), ("polygons", files.YOLO_POLYGONS)):
        write(tmp_path / name / "data.yaml", files.YOLO_NAMES)
        write(tmp_path / name / "labels" / "a.txt", text)
        (tmp_path / name / "images").mkdir()
        Image.new("RGB", files.YOLO_SIZE).save(tmp_path / name / "images" / "a.jpg")
        instances = read_yolo(tmp_path / name).pictures[0].instances
        # The library keeps f32, and rounds polygons to whole pixels.
        tolerance = 1e-4 if name == "boxes" else 1.0
        np.testing.assert_allclose([one.box for one in instances], TRUTH[f"yolo_{name}"], atol=tolerance)
        assert [one.label for one in instances] == TRUTH[f"yolo_{name}_classes"].tolist()


def test_an_image_on_its_side_has_the_size_that_is_shown(tmp_path):
    write(tmp_path / "data.yaml", files.YOLO_NAMES)
    (tmp_path / "images").mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "images" / "a.jpg", exif=turned)
    (picture,) = read_yolo(tmp_path).pictures
    assert picture == Picture("a.jpg", 20, 30)


def test_what_yolo_and_label_studio_cannot_hold_is_an_error_or_a_named_warning(coco, tmp_path):
    found = read_coco(coco)
    for writer, name, reasons in (
        (write_yolo, "yolo", ("a mask", "a crowd", "a polygon", "'occluded'", "the edges of a skeleton",
                              "an object without key points, among those with")),
        (write_label_studio, "tasks.json", ("a mask", "a crowd", "'age'", "not one polygon with its own bounds",
                                            "a hidden key point")),
        (write_voc, "voc", ("a mask", "a polygon", "key points", "the skeleton of a class", "'age'")),
    ):  # fmt: skip
        with pytest.raises(UserError, match="With lossy=True, they are left out") as error:
            writer(found, tmp_path / name)
        assert [reason for reason in reasons if reason not in str(error.value)] == []
        assert not (tmp_path / name).exists()
        with pytest.warns(LostAnnotation, match="a crowd"):
            writer(found, tmp_path / name, lossy=True)
        with pytest.raises(UserError, match="exists; annotations are not replaced"), pytest.warns(LostAnnotation):
            writer(found, tmp_path / name, lossy=True)
    boxes = read_voc(tmp_path / "voc", classes=found.classes)
    assert sum(len(picture.instances) for picture in boxes.pictures) == 3
    assert boxes.pictures[0].instances[0].attributes == {"occluded": True}
    outside = BOXES._replace(pictures=(Picture("a.jpg", 10, 10, (instance(0, -1, 2, 5, 5),)),))
    with pytest.raises(UserError, match="coordinates outside the image"):
        write_yolo(outside, tmp_path / "outside")


def test_names_that_say_nothing_are_no_loss(tmp_path):
    write(tmp_path / "voc" / "a.xml", files.VOC.replace("<pose>Left</pose><truncated>1", "<truncated>0").replace(
        "<difficult>1", "<difficult>0"))  # fmt: skip
    write_yolo(read_voc(tmp_path / "voc"), tmp_path / "yolo")


BOMB = '<!DOCTYPE a [<!ENTITY b "ha"><!ENTITY c "&b;&b;&b;&b;">]>'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<annotation>", BOMB + "<annotation>", "declares a document type; expected plain XML"),
        ("<annotation>", '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation>', "declares a document type"),
        ("2007_000027.jpg", "../../etc/passwd", "file name '../../etc/passwd'; expected a relative path"),
        ("2007_000027.jpg", "/etc/passwd", "expected a relative path"),
        ("2007_000027.jpg", "C:x.jpg", "expected a relative path"),
        ("2007_000027.jpg", "", "has no <filename>"),
        ("<width>486", "<width>1000000000000", "expected finite coordinates of up to 1000000"),
        ("<width>486", "<width>0", "a size of 0 x 500; expected integers from 1"),
        ("<width>486", "<width>4.5", "a size of 4.5 x 500"),
        ("<xmin>174", "<xmin>nan", "expected finite coordinates"),
        ("<xmin>174", "<xmin>many", "<bndbox/xmin> is 'many'; expected a number"),
        ("<xmin>174", "<xmin>400", "object 0: the box .*expected x1 <= x2"),
        ("<name>dog", "<name>dgo", "unknown class of .*object 1 'dgo'. Did you mean 'dog'"),
        ("<truncated>1", "<truncated>maybe", "<truncated> is 'maybe'; expected 0 or 1"),
        ("<pose>Left</pose>", "<part><name>head</name></part>", "cannot hold the part <part> of an object"),
        ("</annotation>", "", "is not XML"),
        ("annotation>", "note>", "has the root <note>; expected <annotation>"),
    ],
)
def test_hostile_or_damaged_xml(tmp_path, old, new, message):
    write(tmp_path / "a.xml", files.VOC.replace(old, new))
    with pytest.raises(UserError, match=message):
        read_voc(tmp_path, classes=("person", "dog"))


def test_utf_16_hides_no_entities(tmp_path):
    (tmp_path / "a.xml").write_bytes(('<?xml version="1.0" encoding="utf-16"?>' + BOMB + files.VOC).encode("utf-16"))
    with pytest.raises(UserError, match="cannot be read"):
        read_voc(tmp_path)
    (tmp_path / "a.xml").unlink()
    (tmp_path / "a.xml").symlink_to("/etc/passwd")
    with pytest.raises(UserError, match="symbolic link"):
        read_voc(tmp_path)
    (tmp_path / "a.xml").unlink()
    with pytest.raises(UserError, match="has no XML files"):
        read_voc(tmp_path)


def test_names_that_xml_cannot_hold(tmp_path):
    for name in ("a\x00b", " dog"):
        with pytest.raises(UserError, match="name is .*XML cannot hold control characters"):
            write_voc(BOXES._replace(classes=("x", name)), tmp_path)
    with pytest.raises(UserError, match="'a.jpg' and 'a.png' have one name"):
        write_voc(Annotations((), (Picture("a.jpg", 1, 1), Picture("a.png", 1, 1))), tmp_path)
    with pytest.raises(UserError, match="'../a.jpg'; expected a relative path"):
        write_yolo(Annotations((), (Picture("../a.jpg", 1, 1),)), tmp_path / "yolo")


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (("annotations", 0, "category_id"), 4, r"annotation 1: unknown category_id 4. The nearest .* is 3 \('cat'\)"),
        (("annotations", 0, "category_id"), "cat", "unknown category_id 'cat'. Valid: 3, 7"),
        (("annotations", 0, "image_id"), 12, "image_id 12 is none of the 2 images"),
        (("annotations", 0, "bbox"), [1, 2, -3, 4], "annotation 1, bbox: the box .*expected x1 <= x2"),
        (("annotations", 0, "bbox"), [1, 2, 3], "annotation 1, bbox.*expected 4 numbers"),
        (("annotations", 0, "bbox"), [], r"the bbox \[\]; expected \[x, y, width, height\]"),
        (("annotations", 0, "bbox"), [0, 0, 1e30, 1], "expected finite coordinates"),
        (("annotations", 0, "bbox"), [0, 0, 10**400, 1], "expected 4 numbers"),
        (("annotations", 0, "segmentation"), [[1, 2, 3, 4]], "a polygon of 2 points; expected 3 or more"),
        (("annotations", 0, "segmentation"), "x", "a segmentation of type str"),
        (("annotations", 0, "iscrowd"), 2, "iscrowd is 2; expected 0 or 1"),
        (("annotations", 0, "area"), -1, "the area -1; expected a number of at least 0"),
        (("annotations", 0, "score"), 0.5, "cannot hold the entry 'score' of an annotation"),
        (("annotations", 0, "keypoints"), [1, 1, 2], "1 key points; the class 'cat' has none"),
        (("annotations", 2, "keypoints"), [1, 1, 3] * 3, "a visibility of .*expected 0, 1 or 2"),
        (("annotations", 2, "attributes"), {"a": []}, "the attributes .*expected an object"),
        (("annotations", 1, "segmentation", "size"), [10, 21], "a mask of size .*the image has"),
        (("annotations", 1, "segmentation", "counts"), [10, 10**30], "sum to 1000.*; expected 200"),
        (("annotations", 1, "segmentation", "counts"), [-10, 210], "no list of numbers from 0; expected 200"),
        (("annotations", 1, "segmentation", "counts"), "0P", "end in the middle of a number"),
        (("annotations", 1, "segmentation", "counts"), "0!", "have '!' at number 1"),
        (("annotations", 1, "segmentation", "counts"), "oooooooooooooooo", "have 'o' at number 0"),
        (("annotations", 1, "id"), 1, r"annotations\[1\]: the id 1; expected integers, each once"),
        (("images", 0, "width"), 10**12, "image 11: a size of 1000000000000 x 10"),
        (("images", 0, "file_name"), "../a.jpg", "image 11: the file name '../a.jpg'"),
        (("images", 0, "file_name"), "b.png", "'b.png' and 'b.png' have one name"),
        (("categories", 0, "name"), "person", "category 1: the name 'person'; expected texts, each once"),
        (("categories", 1, "skeleton"), [[1, 4]], "edges from 1 to 3"),
        (("categories", 1, "skeleton"), [1, 4], "the skeleton .*expected pairs"),
        (("images",), {}, "has no list of objects 'images'"),
    ],
)
def test_hostile_or_damaged_coco(tmp_path, place, value, message):
    content = json.loads(files.COCO)
    *way, last = place
    inner = content
    for step in way:
        inner = inner[step]
    inner[last] = value
    with pytest.raises(UserError, match=message):
        read_coco(write(tmp_path / "a.json", json.dumps(content)))


@pytest.mark.parametrize(("text", "message"), [("{", "is not JSON"), ("[" * 100_000, "is not JSON"), ("[]", "no list")])
def test_what_is_no_coco(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_coco(write(tmp_path / "a.json", text))
    with pytest.raises(UserError, match="no annotation file .*Did you mean 'a.json'"):
        read_coco(tmp_path / "b.json")


def test_an_absurd_mask_is_not_unpacked(tmp_path):
    content = json.loads(files.COCO)
    content["images"][0] |= {"width": 10**6, "height": 10**6}
    content["annotations"][1]["segmentation"] = {"size": [10**6, 10**6], "counts": [10**12]}
    mask = read_coco(write(tmp_path / "a.json", json.dumps(content))).pictures[0].instances[1].mask
    with pytest.raises(UserError, match="a mask of 1000000 x 1000000 pixels; expected at most"):
        mask.pixels()


ALIASES = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + old] * 9)}]\n"
    for old, name in zip("abcdefghijkl", "bcdefghijklm", strict=True)
)


@pytest.mark.parametrize(
    ("yaml", "line", "message"),
    [
        (files.YOLO_NAMES, "2 0.5 0.5 0.1 0.1", "line 1: the class 2; data.yaml has the classes 0 to 1"),
        (files.YOLO_NAMES, "-1 0.5 0.5 0.1 0.1", "the class -1"),
        (files.YOLO_NAMES, "0 0.5 0.5 0.1", "has 3 numbers after the class; expected 4"),
        (files.YOLO_NAMES, "0 0.5 0.5 0.1 1.1", "expected fractions of the image, 0 to 1"),
        (files.YOLO_NAMES, "0 0.5 0.5 0.1 nan", "expected fractions of the image"),
        (files.YOLO_NAMES, "dog 0.5 0.5 0.1 0.1", "line 1: .*expected a class number and fractions"),
        (files.YOLO_NAMES + "kpt_shape: [1, 3]", "0 0.5 0.5 0.1 0.1 0.5 0.5 7", "a visibility of"),
        (files.YOLO_NAMES + "kpt_shape: [1, 3]", "0 0.5 0.5 0.1 0.1", "has 4 numbers after the class; expected 7"),
        (files.YOLO_NAMES + "kpt_shape: [1, 9]", "", "has the kpt_shape"),
        (files.YOLO_NAMES + "kpt_shape: [1, 3]\nkpt_names: {0: [a, b]}", "", "expected 1 texts for numbers of classes"),
        (files.YOLO_NAMES + "kpt_shape: [1, 3]\nkpt_names: [a]", "", "has the kpt_names"),
        ("names: [yes, no]", "", "has the names .*expected texts"),
        ("names: {1: a}", "", "numbered from 0"),
        ("names: [a, a]", "", "each once"),
        (ALIASES + "names: *m", "", "has the names"),
        ("names: !!python/object/apply:os.system [ls]", "", "is not YAML"),
        ("[", "", "is not YAML"),
    ],
)
def test_hostile_or_damaged_yolo(tmp_path, yaml, line, message):
    write(tmp_path / "data.yaml", yaml)
    write(tmp_path / "labels" / "a.txt", line)
    with pytest.raises(UserError, match=message):
        read_yolo(tmp_path, sizes={"a.jpg": (10, 10)})


def test_label_files_without_an_image_and_key_points_without_visibility(tmp_path):
    write(tmp_path / "data.yaml", files.YOLO_NAMES + "kpt_shape: [2, 2]")
    write(tmp_path / "labels" / "a.txt", "0 0.5 0.5 0.2 0.2 0.5 0.25 0 0")
    (one,) = read_yolo(tmp_path, sizes={"a.jpg": (10, 20)}).pictures[0].instances
    np.testing.assert_array_equal(one.keypoints, [[5, 5, 2], [0, 0, 0]])
    with pytest.raises(UserError, match="labels/a.txt has no image"):
        read_yolo(tmp_path, sizes={"b.jpg": (10, 10)})
    with pytest.raises(UserError, match="'a.jpg' and 'a.png' have one name"):
        read_yolo(tmp_path, sizes={"a.jpg": (10, 10), "a.png": (10, 10)})
    write(tmp_path / "images" / "a.png", "no image")
    with pytest.raises(UserError, match="a.png cannot be read as an image"):
        read_yolo(tmp_path)


def task(*regions, **changes):
    regions = [{"original_width": 200, "original_height": 100, "id": str(i), **r} for i, r in enumerate(regions)]
    return {"data": {"image": "/data/upload/1/a.jpg"}, "annotations": [{"result": regions}], **changes}


RECTANGLE = {"type": "rectanglelabels", "value": {"x": 10, "y": 20, "width": 5.5, "height": 30, "rotation": 0,
                                                  "rectanglelabels": ["dog"]}}  # fmt: skip
POINT = {"type": "keypointlabels", "parentID": "0", "value": {"x": 50, "y": 50, "keypointlabels": ["nose"]}}


def studio(tmp_path, *tasks, **options):
    return read_label_studio(write(tmp_path / "tasks.json", json.dumps(tasks)), **options)


def test_an_export_of_label_studio(tmp_path):
    """The numbers are those of the format's documentation: percent of the image."""
    cancelled = {"was_cancelled": True, "result": [{}]}
    one = task(RECTANGLE)
    one["annotations"].insert(0, cancelled)
    found = studio(tmp_path, one, task(meta={"width": 3, "height": 4}, data={"image": "b.jpg"}, annotations=[]))
    assert found.classes == ("dog",) and found.pictures[1] == Picture("b.jpg", 3, 4)
    same(found.pictures[0], Picture("/data/upload/1/a.jpg", 200, 100, (instance(0, 20, 20, 31, 50),)))
    with pytest.raises(UserError, match="expected a relative path"):
        write_coco(found, tmp_path / "coco.json")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "expected the export JSON, not JSON-MIN"),
        (task(annotations=[{"result": []}] * 2), "has 2 annotations; expected one"),
        (task(annotations=[{}]), "without a list `result`"),
        (task(data={"image": "../a.jpg"}), "the image '../a.jpg' in data"),
        (task(data={"img": "a.jpg"}), "the image None"),
        (task(), "a size of None x None"),
        (task(RECTANGLE, {**RECTANGLE, "original_width": 3}), "have different sizes of the image"),
        (task({"type": "brushlabels", "value": {}}), "cannot hold a region of type 'brushlabels'"),
        (task({**RECTANGLE, "value": {**RECTANGLE["value"], "rotation": 30}}), "cannot hold a rotated region"),
        (task({**RECTANGLE, "value": {**RECTANGLE["value"], "rectanglelabels": ["dgo"]}}), "Did you mean 'dog'"),
        (task({**RECTANGLE, "value": {**RECTANGLE["value"], "rectanglelabels": ["a", "b"]}}), "expected one text"),
        (task({**RECTANGLE, "value": {**RECTANGLE["value"], "width": "wide"}}), "region 0: .*expected 2 numbers"),
        (task({**RECTANGLE, "value": None}), "has no value"),
        (task(POINT), "cannot hold a key point without a parent"),
        (task(RECTANGLE, POINT), r"the key point 'nose'; give skeletons=\{'dog': Skeleton"),
    ],
)
def test_hostile_or_damaged_label_studio(tmp_path, given, message):
    with pytest.raises(UserError, match=message):
        studio(tmp_path, given, classes=("dog",))
    if "cannot hold" in message:
        with pytest.warns(LostAnnotation):
            assert not studio(tmp_path, given, classes=("dog",), lossy=True).pictures[0].instances
