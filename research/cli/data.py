"""Verbs for data sets, and the list of experiments."""


def prepare(data: str, *, out: str | None = None):
    """Prepare a data set for fast random access.

    data: the name of a data set, or a path to records
    out (FOLDER): the output folder (default: next to a path, or the data folder of TFDS for a name)
    """
    from research.data.readers.prepare import prepare

    print(prepare(data, out=out))


def list_(folder: str = "experiments"):
    """List experiments with one-line summaries.

    folder: the folder to search
    """
    from research.runs.experiment_file import experiments

    summaries = experiments(folder)
    width = max(map(len, summaries))
    print("\n".join(f"{file:<{width}}  {text}" for file, text in summaries.items()))
