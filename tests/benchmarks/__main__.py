"""`python -m tests.benchmarks [WORK ...] [--rounds N] [--quick] [--contenders a,b]`: see the package's docstring."""

import argparse
import importlib
import os
import sys
from concurrent.futures import ThreadPoolExecutor

from research.errors import UserError, unknown
from tests.benchmarks import harness, results, works

TABLES = ("waiting", "memory")  # memory takes the devices: no contender must come after it
EVERYTHING = (*works.ALL, *works.SCALING, *TABLES)
# One of each kind, within two minutes on two cores. The speedrun has one size, the tables have tests of their own.
LEFT_OUT = ("dispatch-152", "startup-warm", "speedrun")
QUICK = (*(name for name in works.ALL if name not in LEFT_OUT), "mlp@devices=2")


def main(arguments=None) -> int:
    """Measures, stores (a quick run does not) and prints; 1 where a contender was lost that should have run."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("works", nargs="*", metavar="WORK", help=f"of {', '.join((*works.ALL, 'scaling', *TABLES))}")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--again", type=int, metavar="N", help="at most N more for unstable rows, by default --rounds")
    parser.add_argument("--seconds", type=float, default=1.0, help="how long a turn should take")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, a round, nothing stored")
    parser.add_argument("--contenders", default="", help="only these, e.g. ours,floor,torch-best")
    given = parser.parse_args(arguments)
    only = tuple(filter(None, given.contenders.split(",")))
    known = {c.name for name in works.ALL for c in harness.contenders(works.work(name, quick=True))}
    for name in only:
        if name not in known:
            raise unknown("contender", name, known)
    named = given.works or (QUICK if given.quick else EVERYTHING)
    named = sorted(named, key=lambda name: TABLES.index(name) if name in TABLES else -1)
    chosen = [spec for name in named for spec in (works.SCALING if name == "scaling" else [name])]
    how = dict(rounds=1, seconds=0.01)
    if not given.quick:
        again = given.rounds if given.again is None else given.again
        how = dict(rounds=given.rounds, seconds=given.seconds, again=again)
    for spec in chosen:
        if spec not in TABLES:
            works.work(spec, quick=True)  # a mistake is told before hours of measuring
    say = lambda text: print(text, flush=True)

    def measured(spec):
        if spec not in TABLES:
            return harness.measure(spec, **how, quick=given.quick, only=only, tell=say)
        made = importlib.import_module(f"tests.benchmarks.{spec}")
        table = {"work": spec, "about": made.__doc__, "table": made.table(quick=given.quick), "lost": []}
        return {**harness.circumstances(), **table}

    failed = False
    with ThreadPoolExecutor(os.cpu_count()) as pool:  # where no time is to be right, several works at once
        for line in (pool.map if given.quick else map)(measured, chosen):
            failed |= any("left out" not in reason for reason in line["lost"])
            say(f"\n{results.table(line)}\n")
            if not given.quick:
                harness.store(line)
                (harness.RESULTS.parent / "RESULTS.md").write_text(results.page(results.read(harness.RESULTS)))
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
