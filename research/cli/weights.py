"""Verbs for public checkpoints of other libraries."""


def weights_export(run: str, folder: str, *, trust: bool = False):
    """Write a run's weights as a checkpoint of another library: config.json and model.safetensors.

    The experiment names the library's layout: Experiment(published=gpt.transformers(...)). It runs the Python source
    that is stored in the run folder.

    run: a run folder, for its newest checkpoint; or RUN@best, or RUN@STEP
    folder: a new folder
    trust: run the source of a folder that you did not make on this machine
    """
    from research.errors import UserError
    from research.files import file_errors
    from research.runs.opened import open_run
    from research.weights.export import export

    opened = open_run(run, trust=trust)
    if opened.experiment.published is None:
        raise UserError(
            f"the experiment of {opened.folder} names no layout to export; set Experiment(published=...), such as "
            "gpt.transformers(...) of research.weights."
        )
    with file_errors(folder):
        print(export(opened.trained, opened.experiment.published, folder=folder))


def weights_show(source: str):
    """Print the content of a public checkpoint, and the lines with which an experiment starts from it.

    source: a folder of transformers or timm, a repository in the local cache of the Hugging Face Hub, or a file
    """
    from research.weights.show import show

    print(show(source))
