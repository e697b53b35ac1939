"""Facts of what was made, as this project's own parsers read them. `seen.py` reads the same with other code."""

from collections.abc import Mapping

from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.ceremony.acts import Act
from cryptosvc.core.ceremony.fields import EXTENSIONS, moment_of
from cryptosvc.core.ceremony.rows import ActKind
from cryptosvc.core.ceremony.verdict import MODULE_EVIDENCE
from cryptosvc.core.content.x509 import csr, der, extensions
from cryptosvc.core.content.x509.distinguished import read_name
from cryptosvc.core.content.x509.extensions import Extension, read_extensions
from cryptosvc.core.content.x509.profile import X509Profile
from cryptosvc.core.content.x509.tbs import read_tbs
from cryptosvc.core.life import NANOSECONDS, UnixSeconds
from cryptosvc.core.proposal import ProposalRecord

_DAY = 86_400
_LARGEST = 1 << 20
_NAMES = {oid: name for name, oid in EXTENSIONS.items()}
_LIST_EXTENSIONS = 0xA0


def of_certificate(encoded: bytes) -> dict[str, JsonValue]:
    """Facts of a DER certificate."""
    fields = der.Fields(der.read(encoded, limit=_LARGEST), "certificate")
    tbs = read_tbs(fields.take(der.SEQUENCE))
    usage = tbs.extension(extensions.KEY_USAGE)
    constraints = tbs.extension(extensions.BASIC_CONSTRAINTS)
    length = None if constraints is None else extensions.path_length(constraints.value)
    facts: dict[str, JsonValue] = {
        **_named(tbs.extensions),
        "key_usage": sorted(
            one.value for one in ((extensions.key_usages(usage.value)) if usage is not None else ())
        ),
        "remote_party_role": int(read_name(tbs.subject).role),
        "validity_days": (tbs.not_after // NANOSECONDS + 1 - tbs.not_before // NANOSECONDS) // _DAY,
        "serial": f"{tbs.serial:x}",
        "not_before": moment_of(UnixSeconds(tbs.not_before // NANOSECONDS)),
        "not_after": moment_of(UnixSeconds(tbs.not_after // NANOSECONDS)),
        "public_key": tbs.public_point.hex(),
    }
    return facts if length is None else {**facts, "path_length": length}


def of_request(encoded: bytes, profile: X509Profile) -> dict[str, JsonValue]:
    """Facts of a DER CertificationRequest."""
    info = der.Fields(der.read(encoded, limit=_LARGEST), "csr").take(der.SEQUENCE)
    content = csr.parse(info.encoded, profile)
    return {
        "key_usage": sorted(usage.value for usage in content.usages),
        "remote_party_role": int(content.subject.role),
        "public_key": content.public_point.hex(),
    }


def of_list(encoded: bytes) -> dict[str, JsonValue]:
    """Facts of a DER CertificateList."""
    tbs = der.Fields(der.read(encoded, limit=_LARGEST), "crl").take(der.SEQUENCE)
    fields = der.Fields(tbs, "crl")
    fields.take(der.INTEGER)
    fields.take(der.SEQUENCE)
    fields.take(der.SEQUENCE)
    this_update = der.instant(fields.take(der.UTC_TIME, der.GENERALIZED_TIME)) // NANOSECONDS
    next_update = der.instant(fields.take(der.UTC_TIME, der.GENERALIZED_TIME)) // NANOSECONDS
    entries = fields.optional(der.SEQUENCE)
    found = read_extensions(der.Fields(fields.take(_LIST_EXTENSIONS), "crl").take(der.SEQUENCE))
    number = next(one for one in found if one.oid == extensions.CRL_NUMBER)
    return {
        **_named(found),
        "entries": 0 if entries is None else len(entries.children),
        "validity_days": (next_update - this_update) // _DAY,
        "this_update": moment_of(UnixSeconds(this_update)),
        "next_update": moment_of(UnixSeconds(next_update)),
        "crl_number": extensions.crl_number(number.value),
    }


def _named(found: tuple[Extension, ...]) -> Mapping[str, JsonValue]:
    return {
        "extensions": sorted(_NAMES.get(one.oid, one.oid) for one in found),
        "critical_extensions": sorted(_NAMES.get(one.oid, one.oid) for one in found if one.critical),
    }


def of_parts(act: Act, proposal: ProposalRecord, *, usable: bool) -> dict[str, JsonValue]:
    """Facts of a key that was split or put together, as its proposal has them; none of another act."""
    if act.kind not in (ActKind.SPLIT_KEY, ActKind.RECOMBINE_KEY):
        return {}
    asked, outcome = proposal.statement.parameters, dict(proposal.outcome)
    facts: dict[str, JsonValue] = {"usable": usable}
    if act.kind is ActKind.SPLIT_KEY:
        facts |= {"threshold": asked["threshold"], "parts": asked["parts"]}
    else:
        facts["threshold"] = len(str(asked["holders"]).split(","))
    return facts | ({MODULE_EVIDENCE: outcome[MODULE_EVIDENCE]} if MODULE_EVIDENCE in outcome else {})
