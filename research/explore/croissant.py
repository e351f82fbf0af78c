"""Croissant 1.0 (Akhtar et al. 2024, "Croissant: A Metadata Format for ML-Ready Datasets"): a data set as JSON-LD.

Facts for which Croissant has no property are in those of its extension for responsible AI: consent is
`rai:personalSensitiveInformation`, and known faults are `rai:dataLimitations`.
"""

import os
from pathlib import Path
from urllib.parse import quote

from research.data.readers.table_files import kind_of

TERMS = (
    "citeAs column equivalentProperty extract field fileProperty fileObject fileSet format includes isLiveDataset "
    "jsonPath key md5 parentField path recordSet references regex repeated replace samplingRate separator source "
    "subField transform"
)
CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "dct": "http://purl.org/dc/terms/",
    "sc": "https://schema.org/",
    "conformsTo": "dct:conformsTo",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
    **{name: f"cr:{name}" for name in TERMS.split()},
}
ENCODINGS = {
    "csv": "text/csv", "parquet": "application/x-parquet", "jsonl": "application/jsonlines",
    "xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}  # fmt: skip
RECORDS, COLUMNS, SPLITS, FILE = "records", "columns", "splits", "file"


def croissant(card, *, folder) -> dict:
    """Return the JSON-LD of a Card, as a value for json.dumps; the path of its file is relative to `folder`.

    A split is a record of the record set "splits". A column is a field of "records", with its source in the file. A
    field needs a source: without a file, a column is a record of "columns".
    """
    source, facts = card.source, card.facts
    found = {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "name": source.name,
        "description": facts.description or "not stated",
        "license": facts.licence,
        "url": source.facts.homepage if source.facts else "",
        "version": "1.0.0" if source.facts else "",
        "identifier": {"@type": "PropertyValue", "propertyID": "content fingerprint", "value": card.fingerprint},
        "rai:dataCollection": facts.origin,
        "rai:personalSensitiveInformation": facts.consent,
        "rai:dataLimitations": list(facts.faults),
        "distribution": [_file(source, card.sha256, folder)] if source.path else [],
        "recordSet": [_splits(card.splits), _records(card)],
    }
    return {name: value for name, value in found.items() if value}


def _file(source, sha256: str, folder) -> dict:
    path = source.path
    return {
        "@type": "cr:FileObject",
        "@id": FILE,
        "name": path.name,
        "contentUrl": quote(os.path.relpath(path.resolve(), Path(folder).resolve()).replace(os.sep, "/")),
        "contentSize": f"{path.stat().st_size} B",
        "encodingFormat": ENCODINGS[kind_of(path, source.arguments.get("format"))],
        "sha256": sha256,
    }


def _splits(splits) -> dict:
    fields = {"name": ("name of the split", "sc:Text"), "records": ("number of records", "sc:Integer")}
    rows = [{"name": name, "records": count} for name, count in splits.items()]
    return _inline(SPLITS, fields, rows) | {"dataType": "cr:Split", "key": {"@id": f"{SPLITS}/name"}}


def _records(card) -> dict:
    """Return the columns as fields with their source in the file; without a file, as the data of a record set."""
    table, rows = card.source.table, []
    for name, column in table.schema.items():
        found = card.summaries[name]
        words = f"{column.kind}, {found.distinct:,} distinct values"
        words += f", {100 * found.missing / found.rows:.1f} % missing" if found.missing else ""
        words += ", the target" if name == table.target else ""
        rows.append({"name": name, "type": data_type(column, table.columns[name], found), "description": words})
    if card.source.path is None:
        fields = {"name": ("name of the column", "sc:Text"), "type": ("type of its values", "sc:Text"),
                  "description": ("content", "sc:Text")}  # fmt: skip
        return _inline(COLUMNS, fields, rows)
    source = lambda name: {"source": {"fileObject": {"@id": FILE}, "extract": {"column": name}}}
    fields = [_field(RECORDS, row["name"], row["description"], row["type"]) | source(row["name"]) for row in rows]
    return {"@type": "cr:RecordSet", "@id": RECORDS, "name": RECORDS, "field": fields}


def _inline(name, fields, rows) -> dict:
    """Return a record set whose records are part of the JSON; `fields` is {name: (description, type)}."""
    made = [_field(name, field, *about) for field, about in fields.items()]
    data = [{f"{name}/{field}": value for field, value in row.items()} for row in rows]
    return {"@type": "cr:RecordSet", "@id": name, "name": name, "field": made, "data": data}


def _field(record_set, name, description, kind) -> dict:
    return {"@type": "cr:Field", "@id": f"{record_set}/{quote(name, safe='')}", "name": f"{record_set}/{name}",
            "description": description, "dataType": kind}  # fmt: skip


def data_type(column, values, found) -> str:
    """Return the type of a column's cells in Croissant; integers with missing cells are floats."""
    if column.kind == "date":
        return "sc:DateTime" if column.time else "sc:Date"
    if values.dtype == object:
        return "sc:Text"
    whole = values.dtype.kind == "i" or column.kind == "integer"
    return "sc:Integer" if whole and not found.missing + found.infinite else "sc:Float"
