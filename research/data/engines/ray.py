"""Ray Data."""

import pickle

from research.data.engines.parts import HELD, Engine, missing_engine, rounds


def ray(*, address: str | None = None, settings=None, held: int = HELD) -> Engine:
    """Return the engine of Ray Data. It needs the extra `ray`.

    address: the address of the cluster, such as "ray://host:10001" or "auto"; None starts Ray on this machine
    settings: more arguments of `ray.init`, such as {"num_cpus": 2}
    held: records of a stream that are sent in one job

    A connection that exists is used and stays.
    """

    def run(task, pieces):
        try:
            import ray as library
            import ray.data
        except ImportError:
            raise missing_engine("ray[data]", "ray") from None

        def done(row):
            task(pickle.loads(row["piece"]))
            return {"done": True}

        given = library.is_initialized()
        if not given:
            library.init(**{"address": address or "local", "include_dashboard": False, **(settings or {})})
        try:
            for some in rounds(pieces, held=held):
                # As bytes: Ray would convert the records to Arrow, which changes types.
                rows = [{"piece": pickle.dumps(piece)} for piece in some]
                library.data.from_items(rows, override_num_blocks=len(rows)).map(done).materialize()
        finally:
            if not given:
                library.shutdown()

    return run
