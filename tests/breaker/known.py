"""Faults of the product that are known and not yet repaired. Whoever repairs one removes its line."""

# {kind: {pattern of the failure: reason}}
KNOWN: dict[str, dict[str, str]] = {
    "bit_flips": {r"a bit of timing\.jsonl": "timing.jsonl, which has wall-clock times only, has no checksum"},
}
