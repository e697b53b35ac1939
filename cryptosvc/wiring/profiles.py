"""Settings → the frozen values core takes: profiles of the formats, the Supply Sensitive list."""

from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cryptosvc.config.settings import DuisSettings, Settings, X509Settings
from cryptosvc.config.smets1 import Smets1Settings
from cryptosvc.core.content.dlms.apdu import Item
from cryptosvc.core.content.dlms.profile import ADD_CREDIT, Model, Smets1Profile
from cryptosvc.core.content.duis.profile import DuisProfile, duis_profile
from cryptosvc.core.content.forms import Profiles
from cryptosvc.core.content.gbcs.parties import Parties
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.content.x509 import identity
from cryptosvc.core.content.x509.profile import X509Profile
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import Environment, SystemName
from cryptosvc.core.separation import SeparationProfile
from cryptosvc.core.supply import SupplyProfile

_CERTIFICATE_POLICIES = ("root_policies", "issuing_policies", "organisation_policies")


def profiles(settings: Settings) -> Profiles:
    """Read every file the profiles name.

    Raises:
        Malformed: by a rule `config/…`: a file or a value is not what it should be, or environment `live` leaves
            certificate policies to the defaults, which are those of the test hierarchy.

    """
    _require_live_policies(settings)
    try:
        return Profiles(
            x509=_x509(settings.x509),
            gbcs=GbcsProfile.of(settings.gbcs.access_control_brokers),
            duis=None if settings.duis is None else _duis(settings.duis),
            log_origin=settings.log.origin,
            parties=_parties(settings),
            smets1=_smets1(settings.smets1),
        )
    except Malformed as error:
        if error.rule.startswith("config/"):
            raise
        raise Malformed(
            error.message, rule=f"config/{error.rule.replace('/', '-')}", field=error.field
        ) from None


def supply_profile(settings: Settings) -> SupplyProfile:
    """The configured Supply Sensitive Service Reference Variants."""
    return SupplyProfile(sensitive_variants=frozenset(settings.supply_sensitive.sensitive_variants))


def separation_profile(settings: Settings) -> SeparationProfile:
    """Which relevant system this is, and what the other one signs with; Malformed where that is no P-256 key."""
    relevant = settings.relevant_system
    if relevant is None:
        return SeparationProfile()
    octets = read_octets(relevant.other_key, "relevant_system.other_key")
    try:
        key = load_pem_public_key(octets)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Malformed(
            "relevant_system.other_key is no PEM file with a P-256 public key",
            rule="config/value",
            field="relevant_system.other_key",
        )
    return SeparationProfile(
        this=relevant.this,
        other=SystemName(relevant.other),
        other_key=key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        other_entities=frozenset(relevant.other_entities),
    )


def read_octets(path: Path, setting: str) -> bytes:
    """Read a file that a setting names. Malformed where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise Malformed(
            f"{setting}: cannot read {path}: {error.strerror}", rule="config/unreadable", field=setting
        ) from None


def read_certificate(path: Path, setting: str) -> bytes:
    """Read one PEM certificate as DER. Malformed where the file does not hold exactly one."""
    try:
        (certificate,) = x509.load_pem_x509_certificates(read_octets(path, setting))
    except ValueError:
        raise Malformed(
            f"{setting}: {path} is not one PEM certificate", rule="config/certificate", field=setting
        ) from None
    return certificate.public_bytes(Encoding.DER)


def _parties(settings: Settings) -> Parties:
    """Registered originators and Device authorities; a chain goes unchecked in environment test without authorities."""
    gbcs = settings.gbcs
    return Parties.of(
        [read_certificate(path, "gbcs.originators") for path in gbcs.originators],
        [read_certificate(path, "gbcs.device_authorities") for path in gbcs.device_authorities],
        chained=settings.deployment.environment is Environment.LIVE,
    )


def _smets1(settings: Smets1Settings) -> Smets1Profile:
    return Smets1Profile(
        system_titles=frozenset(map(bytes.fromhex, settings.system_titles)),
        models=tuple(Model(**one.model_dump()) for one in settings.models),
        add_credit=tuple(Item("action", one.class_id, one.obis, one.method) for one in settings.add_credit)
        or ADD_CREDIT,
        association_seconds=settings.association_seconds,
    )


def _require_live_policies(settings: Settings) -> None:
    """Where the policies of a live hierarchy were left out, its OCA would issue certificates that say they are tests."""
    if settings.deployment.environment is not Environment.LIVE:
        return
    for name in _CERTIFICATE_POLICIES:
        if getattr(settings.x509, name) is None:
            raise Malformed(
                f"environment live: x509.{name} is not set, and its default is that of the test hierarchy; "
                "set the policy OIDs of the certificate policy this deployment works under",
                rule="config/live-policies",
                field=f"x509.{name}",
            )


def _x509(settings: X509Settings) -> X509Profile:
    chosen = settings.model_dump(exclude_none=True, exclude={"known_oca"})
    known = frozenset(
        identity.known_oca(read_certificate(path, "x509.known_oca")) for path in settings.known_oca
    )
    return X509Profile(known_oca=known, **chosen)


def _duis(settings: DuisSettings) -> DuisProfile:
    return duis_profile(
        read_octets(settings.schema_file, "duis.schema"),
        read_octets(settings.xmldsig_schema, "duis.xmldsig_schema"),
        [read_octets(path, "duis.other_schemas") for path in settings.other_schemas],
        **settings.model_dump(exclude_none=True, include={"max_octets", "max_depth"}),
    )
