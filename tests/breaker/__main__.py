"""`python -m tests.breaker [KIND ...] --minutes 60 --seed 0 --page tests/RELIABILITY.md`."""

import argparse
import sys
import time

import tests.conftest  # noqa: F401  the devices, the cache and the checks of the tests
from tests.breaker import runner


def main() -> int:
    """Make attempts, and return 1 if one went wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.breaker", description="Inject faults at random.")
    parser.add_argument("kinds", nargs="*", choices=[[], *runner.KINDS], metavar="KIND", help=", ".join(runner.KINDS))
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--attempts", type=int, default=10**9, help="at most so many of each kind")
    parser.add_argument("--seed", type=int, default=int(time.time()) // 60 * 1000, help="default: from the clock")
    parser.add_argument("--page", help="write the figures to this file")
    options = parser.parse_args()
    kinds = options.kinds or runner.KINDS
    print(f"seed {options.seed}", flush=True)
    outcomes = runner.run(kinds, seed=options.seed, minutes=options.minutes, attempts=options.attempts, tell=_tell)
    if options.page:
        runner.write_page(outcomes, options.page, seed=options.seed)
    count = {verdict: sum(o.verdict == verdict for o in outcomes) for verdict in ("survived", "known", "wrong")}
    print(", ".join(f"{number} {verdict}" for verdict, number in count.items()))
    return 1 if count["wrong"] else 0


def _tell(text):
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
