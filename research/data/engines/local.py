"""Local processes."""

from research.data.engines.parts import Engine
from research.errors import UserError


def local(*, workers: int | None = None) -> Engine:
    """Return the engine of processes on this machine, by joblib.

    `workers` is the number of processes, by default that of the cores; 1 is this process. At most two pieces per worker
    are held. Raises UserError for a number below 1.
    """
    if workers is not None and workers < 1:
        raise UserError(f"local(workers={workers}); expected at least 1.")

    def run(task, pieces):
        import joblib

        count = workers or joblib.cpu_count()
        if count == 1:
            for piece in pieces:
                task(piece)
            return
        # Memory maps of large arrays would be files that a killed process leaves behind.
        pool = joblib.Parallel(
            count, batch_size=1, pre_dispatch=2 * count, max_nbytes=None, return_as="generator_unordered"
        )
        for _ in pool(joblib.delayed(task)(piece) for piece in pieces):
            pass

    return run
