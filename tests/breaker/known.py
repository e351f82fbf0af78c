"""Faults of the product that are known and not yet repaired. Whoever repairs one removes its line."""

# {kind: {pattern of the failure: reason}}
KNOWN: dict[str, dict[str, str]] = {
    "bit_flips": {
        r"a bit of (metrics|timing)\.jsonl": "metrics.jsonl and timing.jsonl have no checksum",
        r"a bit of (status|run)\.json": "status.json and run.json have no checksum",
        r"a bit of evaluations/\w+\.json": "evaluations/*.json have no checksum",
        r"a bit of source/|/source/tests/breaker/victim\.py": "runs reads source/ without a checksum",
        r"a bit of checkpoints/\d+/meta/meta\.json .*changed (evaluate|runs|compare|predict)": (
            "evaluate and predict use an older checkpoint without a message if metadata of the newest are damaged"
        ),
    },
    "full_disk": {
        r"sweep: ": "a trial that failed because the disk was full is not run again",
    },
}
