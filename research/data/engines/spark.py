"""Apache Spark."""

import os
import sys

from research.data.engines.parts import HELD, Engine, missing_engine, rounds
from research.errors import UserError


def spark(*, master: str = "local[*]", settings=None, held: int = HELD) -> Engine:
    """Return the engine of Apache Spark. It needs the extra `spark`, and Java 17 or newer.

    master: the address of the cluster, such as "spark://host:7077" or "yarn"; "local[2]" is two threads here
    settings: more settings of Spark, {name: value}, such as {"spark.executor.memory": "8g"}
    held: records of a stream that are sent in one job

    A session that exists is used and stays. Raises UserError if the package or Java is missing.
    """

    def run(task, pieces):
        try:
            from pyspark.errors import PySparkRuntimeError
            from pyspark.sql import SparkSession
        except ImportError:
            raise missing_engine("pyspark", "spark") from None
        given = SparkSession.getActiveSession()
        builder = SparkSession.builder.master(master).appName("research")
        chosen = {"spark.ui.enabled": "false"}
        if master.startswith("local"):
            chosen |= {"spark.driver.host": "127.0.0.1", "spark.driver.bindAddress": "127.0.0.1"}
            os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        for name, value in {**chosen, **(settings or {})}.items():
            builder = builder.config(name, value)
        try:
            session = given or builder.getOrCreate()
        except PySparkRuntimeError as error:
            if "JAVA" not in str(error):
                raise
            raise UserError(
                "the engine spark needs Java 17 or newer, which is not found: apt-get install default-jre-headless."
            ) from error
        try:
            for some in rounds(pieces, held=held):
                session.sparkContext.parallelize(some, len(some)).foreach(task)
        finally:
            if given is None:
                session.stop()

    return run
