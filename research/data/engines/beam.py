"""Apache Beam."""

from collections.abc import Sequence

from research.data.engines.parts import HELD, Engine, missing_engine, rounds


def beam(*, runner: str = "FnApiRunner", options: Sequence[str] = (), held: int = HELD) -> Engine:
    """Return the engine of Apache Beam. It needs the extra `beam`.

    runner: where pipelines run, such as "FlinkRunner", "SparkRunner" or "DataflowRunner"; by default this process
    options: options of the runner, such as ("--flink_master=host:8081",)
    held: records of a stream that are sent in one pipeline
    """

    def run(task, pieces):
        try:
            import apache_beam
            from apache_beam.options.pipeline_options import PipelineOptions
        except ImportError:
            hint = ", in an environment of its own: Beam needs older packages than constraints.txt has"
            raise missing_engine("apache-beam", "beam", hint=hint) from None
        for some in rounds(pieces, held=held):
            with apache_beam.Pipeline(runner=runner, options=PipelineOptions(list(options))) as pipeline:
                # Without the shuffle, a runner may fuse all pieces into one task.
                pieces_of_round = pipeline | apache_beam.Create(some) | apache_beam.Reshuffle()
                pieces_of_round | apache_beam.Map(task)

    return run
