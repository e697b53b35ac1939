"""Supply Sensitive Checks: which content needs one, and whether one over these very bytes is attached (G3.23, G3.25).

The check is a DSSE envelope by the checking system registered for the caller. Its payload is the canonical JSON
statement `{"payload_sha256": hex, "request_id": text, "result": "passed", "type": PAYLOAD_TYPE}`; it is bound to
one request id, so that a check cannot be used for a second request.
"""

from dataclasses import dataclass

from cryptosvc.core.content.base import Content

PAYLOAD_TYPE = "application/vnd.cryptosvc.supply-sensitive-check.v1+json"


@dataclass(frozen=True, slots=True)
class SupplyProfile:
    """Configured list of Supply Sensitive Service Reference Variants."""

    sensitive_variants: frozenset[str]


def sensitive(content: Content, profile: SupplyProfile) -> bool:
    """Whether the content can belong to a Supply Sensitive Service Reference Variant, whatever the caller states."""
    return not profile.sensitive_variants.isdisjoint(content.service_reference_variants)
