"""What stays configuration of certificates, requests and revocation lists (design.md section 10).

Every field has a default and every default names its source. A fact marked [recalled] was not found in any document
at hand: check it before a `live` deployment relies on it.

Example:
    >>> profile = X509Profile(organisation_policies=frozenset({"1.2.826.0.1.8641679.1.2.1.4"}), organisation_days=3653)
"""

import re
from dataclasses import dataclass

from cryptosvc.core.errors import Malformed

TEST_POLICY = "1.2.826.0.1.8641679.1.2.1.4"
"""Certificate policy of the published test certificates. The policy OIDs of the live hierarchy were not found."""

ANY_POLICY = "2.5.29.32.0"
"""RFC 5280 4.2.1.4."""

_OID = re.compile(r"[0-2](\.(0|[1-9][0-9]*)){2,}")
_HOUR = 3600
_DAY = 24 * _HOUR


@dataclass(frozen=True, slots=True)
class KnownOca:
    """An OCA Certificate that an Organisation ARL may list; `identity.known_oca` makes one from DER.

    Args:
        issuer: DER of the issuer's Name.
        serial: serial number of the certificate.

    """

    issuer: bytes
    serial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class X509Profile:
    """Bounds and choices. All values are plain: text OIDs, whole days, whole seconds, octets.

    Args:
        root_policies, issuing_policies, organisation_policies: certificate policy OIDs, dotted text, that a
            certificate of the kind may name. A root certificate has no policies extension where `root_policies` is
            empty; the other two may not be empty. Defaults: anyPolicy for the root [recalled]; the test policy.
        root_days, issuing_days, organisation_days: longest validity in days, counted as RFC 5280 does, with both
            ends. Defaults: 50 years [recalled], 25 and 10 years (published test certificates), with their leap days.
        start_within_days: notBefore may lie at most this many days before or after the time of signing.
        organisation_roles: Remote Party Role codes (the OU, 0 to 255) an Organisation Certificate may carry.
            Default: GBCS RemotePartyRole without root and issuing authority, and the XML-signing roles 135 and 137;
            the rest of SEC Section L Annex A Table 1 was not found.
        serial_octets: longest certificate serial number, content octets, 1 to 20. Default 16 (test certificates).
        root_contingency_key: whether a root certificate may carry the wrapped apex contingency key extension
            (RFC 5934; SEC glossary "Contingency Private Key").
        extra_extensions: OIDs of further certificate extensions that may appear. Never critical ones: a critical
            extension that this code does not know is refused whatever is configured.
        crl_shortest_seconds, crl_longest_seconds: nextUpdate minus thisUpdate of an Organisation CRL.
            Default 1 hour to 48 hours [recalled].
        arl_shortest_seconds, arl_longest_seconds: the same of an Organisation ARL. Default 1 day to 12 months
            [recalled].
        this_update_age_seconds: how long before the time of signing thisUpdate may lie.
        clock_tolerance_seconds: how far in the future thisUpdate may lie, for clocks that differ.
        revocation_reasons: CRLReason codes an entry may give. Default: without unspecified (RFC 5280 5.3.1 wants
            it left out), certificateHold (SMKI has no suspension), removeFromCRL and aACompromise.
        known_oca: OCA Certificates that an Organisation ARL may list, beside those of the registered keys.
        certificate_octets, request_octets, crl_octets: largest payload of each form.
        crl_entries: most entries of a revocation list. An entry takes 35 microseconds to read, before anyone is
            judged, so the defaults of these two stay near what the hierarchy needs (some thousand Organisations).

    Raises:
        Malformed: a value is out of its range; the message names it.

    """

    root_policies: frozenset[str] = frozenset({ANY_POLICY})
    issuing_policies: frozenset[str] = frozenset({TEST_POLICY})
    organisation_policies: frozenset[str] = frozenset({TEST_POLICY})
    root_days: int = 50 * 365 + 13
    issuing_days: int = 25 * 365 + 7
    organisation_days: int = 10 * 365 + 3
    start_within_days: int = 31
    organisation_roles: frozenset[int] = frozenset({1, 2, 3, 4, 5, 6, 8, 127, 135, 137})
    serial_octets: int = 16
    root_contingency_key: bool = True
    extra_extensions: frozenset[str] = frozenset()
    crl_shortest_seconds: int = _HOUR
    crl_longest_seconds: int = 48 * _HOUR
    arl_shortest_seconds: int = _DAY
    arl_longest_seconds: int = 366 * _DAY
    this_update_age_seconds: int = _HOUR
    clock_tolerance_seconds: int = 300
    revocation_reasons: frozenset[int] = frozenset({1, 2, 3, 4, 5, 9})
    known_oca: frozenset[KnownOca] = frozenset()
    certificate_octets: int = 8 * 1024
    request_octets: int = 4 * 1024
    crl_octets: int = 256 * 1024
    crl_entries: int = 4_000

    def __post_init__(self) -> None:
        _require(
            bool(self.issuing_policies and self.organisation_policies),
            "issuing_policies, organisation_policies",
        )
        policies = self.root_policies | self.issuing_policies | self.organisation_policies
        _require(all(map(_OID.fullmatch, policies | self.extra_extensions)), "policies and extra_extensions")
        _require(min(self.root_days, self.issuing_days, self.organisation_days) > 0, "…_days")
        _require(self.organisation_roles <= frozenset(range(256)) - {0, 7}, "organisation_roles")
        _require(1 <= self.serial_octets <= 20, "serial_octets")
        _require(0 < self.crl_shortest_seconds <= self.crl_longest_seconds, "crl_shortest_seconds")
        _require(0 < self.arl_shortest_seconds <= self.arl_longest_seconds, "arl_shortest_seconds")
        _require(self.revocation_reasons <= {1, 2, 3, 4, 5, 6, 9, 10}, "revocation_reasons")

    def policies_of(self, *, is_oca: bool, is_root: bool) -> frozenset[str]:
        """Certificate policies that a certificate of the kind may name."""
        if is_root:
            return self.root_policies
        return self.issuing_policies if is_oca else self.organisation_policies


def _require(holds: bool, names: str) -> None:  # noqa: FBT001 -- the condition is the point of the call
    if not holds:
        raise Malformed(
            f"the X.509 profile is out of range: {names}", rule="x509-profile/range", field="x509"
        )


def default_profile() -> X509Profile:
    """Give the profile of the published test hierarchy, without any known OCA Certificate."""
    return X509Profile()
