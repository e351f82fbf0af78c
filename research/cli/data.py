"""Verbs for data sets, and the lists of experiments and of data sets."""


def prepare(data: str, *, out: str | None = None, source: str | None = None):
    """Prepare a data set for fast random access.

    data: the name of a data set (see `list data`), or a path to records
    out (FOLDER): the output folder (default: next to a path, or the data folder of TFDS for a name)
    source (--from SOURCE): tfds or openml, instead of the package of the data set
    """
    from research.data.readers.prepare import prepare

    print(prepare(data, out=out, source=source))


def explore(
    data: str, *, target: str | None = None, split: str | None = None, query: str | None = None,
    missing: list[str] = (), kinds: list[str] = (), out: str | None = None,
):  # fmt: skip
    """Write a page about a table: statistics, problems, and advice as Python.

    It shows schema, missing values, distributions, correlations, outliers, duplicates, leaking columns and views.

    data: a file, URL or database that `table` reads, or the name of a data set (see `list data`)
    target (COLUMN): the column to predict
    split: of a named data set (default: train)
    query (SQL): of a database
    missing (--missing TEXT): cells that mean a missing value, instead of the usual ones
    kinds (--kind COLUMN=KIND): the kind of a column: number, integer, category, text, date or identifier
    out (FILE): the page (default: explore-NAME.html)
    """
    from research.explore import explore

    print(explore(data, target=target, split=split, out=out, **_reading(query, missing, kinds)))


def card(
    data: str, *, target: str | None = None, split: str | None = None, query: str | None = None,
    missing: list[str] = (), kinds: list[str] = (), description: str = "", origin: str = "", licence: str = "",
    consent: str = "", faults: list[str] = (), out: str | None = None,
):  # fmt: skip
    """Write a data set card, as a page and as Croissant JSON-LD.

    It states origin, licence, consent, columns, splits, known faults and fingerprint.

    data: a file, URL or database that `table` reads, or the name of a data set (see `list data`)
    target (COLUMN): the column to predict
    split: of a named data set, for its columns (default: train)
    query (SQL): of a database
    missing (--missing TEXT): cells that mean a missing value, instead of the usual ones
    kinds (--kind COLUMN=KIND): the kind of a column: number, integer, category, text, date or identifier
    description: the content, in a sentence
    origin: who collected the data, how and where
    licence: its name or URL
    consent: whether the people in the data agreed to this use
    faults (--fault TEXT): a known fault
    out (FILE): the page (default: card-NAME.html); the other file has the suffix .json
    """
    from research.explore import card

    stated = {"description": description, "origin": origin, "licence": licence, "consent": consent, "faults": faults}
    print(card(data, target=target, split=split, out=out, **stated, **_reading(query, missing, kinds)))


def _reading(query, missing, kinds) -> dict:
    """Return the arguments of `table` from those of the command line."""
    from research.errors import UserError

    if wrong := [one for one in kinds if "=" not in one]:
        raise UserError(f"--kind {wrong[0]!r}; expected COLUMN=KIND, such as zip=category.")
    schema = {name: kind for name, _, kind in (one.rpartition("=") for one in kinds)}
    return {"query": query, "missing": tuple(missing) or None, "schema": schema or None}


def list_(folder: str = "experiments"):
    """List experiments with one-line summaries, or the real data sets.

    folder: the folder to search for experiments, or the word data
    """
    from research.data.packaged import described
    from research.runs.experiment_file import experiments

    if folder == "data":
        print(described())
        return
    summaries = experiments(folder)
    width = max(map(len, summaries))
    print("\n".join(f"{file:<{width}}  {text}" for file, text in summaries.items()))
