"""An annotation guide: a TOML file with the classes, the rules for each, and examples.

    text = "Rate what the sentence says, not what its author may mean."

    [classes.positive]
    rules = ["It praises the product.", "Irony counts as what is meant."]
    examples = ["I would buy it again.", 17]

An example is a text, or the number of a record of the data set.
"""

import tomllib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from research.data.readers import paths
from research.errors import UserError, unknown
from research.files import read_text

MOST = 2**20  # bytes


class ClassGuide(NamedTuple):
    """The rules of one class, and its examples: texts, and numbers of records."""

    rules: tuple[str, ...]
    examples: tuple[str | int, ...]


class Guide(NamedTuple):
    """The general text of a guide, and the guide of each class by name."""

    text: str
    classes: Mapping[str, ClassGuide]


def read_guide(path, *, classes: Sequence[str], records: int) -> Guide:
    """Read a guide and check it against a data set with these class names and this number of records.

    Raises UserError for a class that the data set does not have, with the nearest name, for a class without rules, for
    an unknown entry or one of another type, and for an example that is not a record.
    """
    path = paths.file(path, what="annotation guide")
    try:
        content = tomllib.loads(read_text(path, most=MOST))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not TOML: {error}.") from error
    _check_entries(content, {"text": str, "classes": dict}, str(path))
    given = content.get("classes", {})
    for name in given:
        if name not in classes:
            raise unknown(f"class of {path}", name, classes)
    guides = {}
    for name in classes:
        entry = given.get(name)
        place = f"{path}, class {name!r}"
        if not isinstance(entry, dict) or not entry.get("rules"):
            raise UserError(f'{place} has no rules; expected [classes."{name}"] with rules = ["..."].')
        _check_entries(entry, {"rules": list, "examples": list}, place)
        rules, examples = entry["rules"], entry.get("examples", [])
        for example in examples:
            if isinstance(example, int) and not isinstance(example, bool) and not 0 <= example < records:
                raise UserError(f"{place}: the example {example} is none of the {records} records of the data set.")
        wrong = [r for r in rules if not isinstance(r, str)] + [e for e in examples if type(e) not in (str, int)]
        if wrong:
            raise UserError(
                f"{place} has {wrong[0]!r}; expected texts as rules, texts or numbers of records as examples."
            )
        guides[name] = ClassGuide(tuple(rules), tuple(examples))
    return Guide(content.get("text", ""), guides)


def _check_entries(values, kinds, place):
    for name, value in values.items():
        if name not in kinds:
            raise unknown(f"entry of {place}", name, kinds)
        if not isinstance(value, kinds[name]):
            raise UserError(f"{place}: {name} is {value!r}; expected a {kinds[name].__name__}.")
