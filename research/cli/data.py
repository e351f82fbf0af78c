"""Verbs of data sets and of the experiments that are there."""


def prepare(data: str, *, out: str | None = None):
    """Make a data set ready to be read at random.

    data: a data set's name, or a path to records
    out (FOLDER): where to put it
    """
    from research.data.readers.prepare import prepare

    print(prepare(data, out=out))


def list_(folder: str = "experiments"):
    """List the experiments, with a line on each.

    folder: where to look
    """
    from research.runs.experiment_file import experiments

    found = experiments(folder)
    width = max(map(len, found))
    print("\n".join(f"{file:<{width}}  {text}" for file, text in found.items()))
