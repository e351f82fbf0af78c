"""Verbs for data sets, and the lists of experiments and of data sets."""


def prepare(data: str, *, out: str | None = None, source: str | None = None):
    """Prepare a data set for fast random access.

    data: the name of a data set (see `list data`), or a path to records
    out (FOLDER): the output folder (default: next to a path, or the data folder of TFDS for a name)
    source (--from SOURCE): tfds or openml, instead of the package of the data set
    """
    from research.data.readers.prepare import prepare

    print(prepare(data, out=out, source=source))


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
