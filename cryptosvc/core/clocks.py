"""Whether clocks agree: Network Time, Independent Time Sources, and the service's own clock.

Network Time is what Communications Hubs follow; an Independent Time Source is accurate and not maintained by the DCC. Of
each kind the median counts, so one source that is wrong among three decides nothing.

Source: Smart Energy Code G2.46, G2.47; RFC 5905 (offset, root distance).

Example:
    >>> readings = [Reading("hubs", Kind.NETWORK, 9_000_000, 1000), Reading("msf", Kind.INDEPENDENT, 0, 1000)]
    >>> [(one.rule, one.difference) for one in compare(readings, tolerance=1_000_000)]
    [('clock/network-time', 9000000), ('clock/own-from-network', 9000000)]
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median_low

CLAUSE = "G2.47"
NETWORK_DIFFERS = "clock/network-time"
OWN_FROM_NETWORK = "clock/own-from-network"
OWN_FROM_INDEPENDENT = "clock/own-from-independent"
SILENT_NETWORK = "clock/network-silent"
SILENT_INDEPENDENT = "clock/independent-silent"
OWN = frozenset({OWN_FROM_NETWORK, OWN_FROM_INDEPENDENT})


class Kind(StrEnum):
    """What a time source is."""

    NETWORK = "network"
    INDEPENDENT = "independent"


@dataclass(frozen=True, slots=True)
class Reading:
    """What a source said.

    Args:
        name, kind: of the source.
        offset: nanoseconds by which it is ahead of this machine's clock.
        error: nanoseconds by which that may be wrong: half the delay, and the source's own distance from its root.

    """

    name: str
    kind: Kind
    offset: int
    error: int


@dataclass(frozen=True, slots=True)
class Finding:
    """What does not agree: by its stable rule, and by how many nanoseconds (0 for a kind that is silent)."""

    rule: str
    difference: int


def compare(
    readings: Sequence[Reading], *, tolerance: int, asked: Collection[Kind] = (Kind.NETWORK, Kind.INDEPENDENT)
) -> list[Finding]:
    """What differs by more than `tolerance` nanoseconds, and which kind of those asked gave no reading as good as that."""
    good = [one for one in readings if one.error <= tolerance]
    middle = {
        kind: median_low(offsets)
        for kind in Kind
        if (offsets := [one.offset for one in good if one.kind is kind])
    }
    network, independent = middle.get(Kind.NETWORK), middle.get(Kind.INDEPENDENT)
    differences = {
        NETWORK_DIFFERS: None if network is None or independent is None else network - independent,
        OWN_FROM_NETWORK: network,
        OWN_FROM_INDEPENDENT: independent,
    }
    found = [
        Finding(rule, difference)
        for rule, difference in differences.items()
        if difference is not None and abs(difference) > tolerance
    ]
    silent = {Kind.NETWORK: SILENT_NETWORK, Kind.INDEPENDENT: SILENT_INDEPENDENT}
    return found + [Finding(silent[kind], 0) for kind in Kind if kind in asked and kind not in middle]
