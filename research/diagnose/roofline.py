"""The roofline: the least time of a step on a device, from its FLOPs, bytes of memory and bytes sent."""

from typing import NamedTuple

from research.diagnose.hlo import Executed


class Chip(NamedTuple):
    """The limits of a device: peak FLOP/s, bytes of memory, bytes/s of that memory, bytes/s that it sends to others."""

    flops: float
    memory: float
    bandwidth: float
    network: float


# {device kind: limits in bfloat16}. Source: "Key chip specifications" of https://cloud.google.com/tpu/docs/v5e, v5p and
# v6e (November 2026). The network is the interchip interconnect in one direction, over all links of a chip.
CHIPS = {
    "TPU v5 lite": Chip(197e12, 16 * 2**30, 819e9, 200e9),
    "TPU v5": Chip(459e12, 95 * 2**30, 2765e9, 600e9),
    "TPU v6 lite": Chip(918e12, 32 * 2**30, 1638e9, 400e9),
}


class Roofline(NamedTuple):
    """The least seconds of a step for each resource. They overlap at best: the step takes at least the longest."""

    compute: float
    memory: float
    network: float

    @property
    def seconds(self) -> float:
        """The least time of a step."""
        return max(self)

    @property
    def limit(self) -> str:
        """The resource that limits the step."""
        return max(self._fields, key=lambda name: getattr(self, name))


def roofline(found: Executed, chip: Chip) -> Roofline:
    """Return the Roofline of what a device executes (Williams et al. 2009), with the network as a third resource."""
    sent = sum(transfer.bytes for transfer in found.transfers.values())
    return Roofline(found.flops / chip.flops, found.bytes / chip.bandwidth, sent / chip.network)
