"""What of GBCS stays configuration: who is an Access Control Broker, and how large a message may be.

Example:
    >>> GbcsProfile.of(["90-B3-D5-1F-30-00-00-02"]).brokers
    frozenset({b'\\x90\\xb3\\xd5\\x1f0\\x00\\x00\\x02'})
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Self

from cryptosvc.core.names import Eui64

MAXIMUM_OCTETS = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class GbcsProfile:
    """Configuration of the Pre-Command inspector; hashable.

    Args:
        access_control_brokers: originators that may act for another party, and so may carry the supplementary
            Remote Party ID and counter. The EUI-64 of the DCC's Access Control Broker is a matter of deployment.
            Source: GBCS message samples: every message with supplementary fields comes from the Access Control Broker.
        maximum_octets: longest message read. The largest sample has some 4,000 octets; no limit was found in GBCS.
        brokers: the same as `access_control_brokers`, as octets; filled in by itself.

    """

    access_control_brokers: frozenset[Eui64] = frozenset()
    maximum_octets: int = MAXIMUM_OCTETS
    brokers: frozenset[bytes] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "brokers", frozenset(eui64.octets for eui64 in self.access_control_brokers))

    @classmethod
    def of(cls, access_control_brokers: Iterable[str] = (), *, maximum_octets: int = MAXIMUM_OCTETS) -> Self:
        """Build from configuration text, `AA-BB-CC-DD-EE-FF-00-11` each; any other form is refused as Malformed."""
        return cls(
            access_control_brokers=frozenset(map(Eui64.parse, access_control_brokers)),
            maximum_octets=maximum_octets,
        )
