"""The service's configuration file. `config.example.toml` shows every setting with its default and its source.

Nothing here opens a module, a store or a socket; `wiring` hands these values on to the floors that do.
"""

from datetime import date
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from cryptosvc.config.backing_up import BackupSettings
from cryptosvc.config.duties import DutySettings
from cryptosvc.config.reading import Section, from_folder, read_toml
from cryptosvc.config.smets1 import Smets1Settings
from cryptosvc.config.watching import WatchSettings
from cryptosvc.config.witnesses import WitnessSettings
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import Environment, Eui64
from cryptosvc.core.separation import RelevantSystem


def _name(text: str) -> str:
    if not text or len(text) > 64 or not all(letter.isalnum() or letter in "._-" for letter in text):
        raise ValueError("a name is 1 to 64 letters, digits, '.', '_' or '-'")
    return text


def _country(text: str) -> str:
    if len(text) != 2 or not text.isascii() or not text.isalpha() or not text.isupper():
        raise ValueError("a country is two capital letters (ISO 3166 alpha-2), as GB")
    return text


def _address(text: str) -> str:
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("an address is HOST:PORT, as 127.0.0.1:8443 or [::]:8443")
    return text


def _origin(text: str) -> str:
    if not text or " " in text or "+" in text or not text.isascii() or not text.isprintable():
        raise ValueError("a log origin is printable ASCII without space or plus, as cryptosvc.example/log")
    return text


def _eui64(text: str) -> str:
    try:
        return str(Eui64.parse(text))
    except Malformed as error:
        raise ValueError(error.message) from None


def _store_url(text: str, info: ValidationInfo) -> str:
    if text.startswith(_SQLITE):
        return _SQLITE + str(from_folder(Path(text.removeprefix(_SQLITE)), info))
    if text.startswith(("postgresql://", "postgresql+psycopg://")):
        if ":" in text.partition("://")[2].partition("@")[0] and "@" in text:
            raise ValueError("no password in the store URL: use a pgpass file or peer authentication")
        return text
    raise ValueError("a store URL starts with sqlite:/// or postgresql+psycopg://")


_SQLITE = "sqlite:///"
FilePath = Annotated[Path, AfterValidator(from_folder)]
Name = Annotated[str, AfterValidator(_name)]
Country = Annotated[str, AfterValidator(_country)]
Address = Annotated[str, AfterValidator(_address)]
StoreUrl = Annotated[str, AfterValidator(_store_url)]
Origin = Annotated[str, AfterValidator(_origin)]
EuiText = Annotated[str, AfterValidator(_eui64)]


class DeploymentSettings(Section):
    """Whose deployment this is, and where.

    Args:
        system: the DCC Individual Live System or User (per User Role) that owns it (G2.20, G3.14).
        environment: test or live.
        worker_country: where the worker processes stand, ISO 3166 alpha-2.

    """

    system: Name
    environment: Environment
    worker_country: Country


class ServerSettings(Section):
    """The gRPC server.

    Args:
        listen: HOST:PORT; every worker listens on it (SO_REUSEPORT).
        workers: worker processes; 0 is one per processor.
        certificate, private_key, client_ca: PEM files of mutual TLS.
        max_batch_items: items in one SignBatch.
        max_message_bytes: largest message accepted.
        max_in_flight_items: items being worked on in one worker before it answers RESOURCE_EXHAUSTED.
        max_connections: connections one worker accepts.
        max_connection_age_seconds: connections are closed after this, so that clients spread anew over workers.
        longest_deadline_seconds: calls may take this long; the grace of an aged connection and of a shutdown.
        metrics: HOST:PORT of the Prometheus endpoint, the sum of all workers; None for none.
        tracing: name of an installed OpenTelemetry exporter, as `otlp_proto_grpc`; empty for none.

    """

    listen: Address
    workers: Annotated[int, Field(ge=0, le=256)] = 0
    certificate: FilePath
    private_key: FilePath
    client_ca: FilePath
    max_batch_items: Annotated[int, Field(ge=1, le=4096)] = 256
    max_message_bytes: Annotated[int, Field(ge=65_536, le=67_108_864)] = 4_194_304
    max_in_flight_items: Annotated[int, Field(ge=1, le=65_536)] = 2048
    max_connections: Annotated[int, Field(ge=1, le=65_536)] = 2048
    max_connection_age_seconds: Annotated[int, Field(ge=10)] = 600
    longest_deadline_seconds: Annotated[int, Field(ge=1, le=600)] = 30
    metrics: Address | None = None
    tracing: str = ""


class StoreSettings(Section):
    """Registry, claims and log.

    Args:
        url: `sqlite:///file` (relative to this file) or `postgresql+psycopg://…`; never with a password in it:
            use a pgpass file or peer authentication.
        claim_ttl_seconds: an open claim past this becomes a leaf "outcome unknown".
        anchor: file in which workers of this host keep the largest log head they saw, so that a log that went
            back is noticed across restarts.

    """

    url: StoreUrl
    claim_ttl_seconds: Annotated[int, Field(ge=1, le=3600)] = 60
    anchor: FilePath


class LogSettings(Section):
    """The log.

    Args:
        origin: origin line of its checkpoints; never changes in the life of a deployment.
        audit_key: id of the audit-signing key.
        service_key: id of the service-signing key.
        head_key: id of the log-authentication key. It is found in its module by this name, never by what the store
            says: the store is what it authenticates.
        module: the module that holds all three; the first where none is named.
        checkpoint_seconds: a checkpoint is signed this often where there is anything new.

    """

    origin: Origin
    audit_key: Name = "log-audit"
    service_key: Name = "log-service"
    head_key: Name = "log-head"
    module: Name | None = None
    checkpoint_seconds: Annotated[int, Field(ge=1, le=86_400)] = 60


class ModuleSettings(Section):
    """One PKCS#11 module.

    Args:
        name: how keys and records name it.
        library: the shared library.
        token_label, token_serial: the token; both must match.
        pin_file, pin_credential: exactly one: a file only its owner can read, or a systemd credential by name.
        sessions: calls in flight per worker. 2 for SoftHSM (global locks), many for a network HSM.
        call_seconds: a call that takes longer is given up; its outcome is unknown.
        manufacturer, model, firmware: what the token must report.
        standard, level, certificate: assurance statement; level 0 where there is none.
        certificate_firmware: firmware versions the certificate covers; a module that reports another is not used. In
            `live` a level asks for both.
        country: where the module stands.
        initialise: reserved argument of C_Initialize, for modules that take one (NSS).

    """

    name: Name
    library: FilePath
    token_label: str
    token_serial: str
    pin_file: FilePath | None = None
    pin_credential: Name | None = None
    sessions: Annotated[int, Field(ge=1, le=1024)] = 2
    call_seconds: Annotated[float, Field(gt=0, le=120)] = 10.0
    manufacturer: str
    model: str
    firmware: str
    standard: str = ""
    level: Annotated[int, Field(ge=0, le=4)] = 0
    certificate: str = ""
    certificate_firmware: tuple[str, ...] = ()
    country: Country
    initialise: str = ""

    @model_validator(mode="after")
    def _one_pin_source(self) -> Self:
        if (self.pin_file is None) == (self.pin_credential is None):
            raise ValueError("give exactly one of pin_file and pin_credential")
        return self


class StandardSettings(Section):
    """A standard modules may be validated under, and when (G1.3).

    Args:
        standard: as module assurance statements spell it.
        accepted_from, accepted_until: dates, UTC; the second is the first day on which it no longer counts.

    """

    standard: str
    accepted_from: date = date(1970, 1, 1)
    accepted_until: date | None = None


class ClassificationSettings(Section):
    """A row of the Information Classification Scheme (G2.45, G3.22).

    Args:
        classification: as the asset register spells it.
        level: lowest assurance level of the module; never below 3.
        modules: names of the [[modules]] established for it; none where any of that level is.

    """

    classification: Annotated[str, Field(min_length=1, max_length=64)]
    level: Annotated[int, Field(ge=3, le=4)] = 3
    modules: tuple[Name, ...] = ()


class PolicySettings(Section):
    """Cedar policies and what they lean on.

    Args:
        folder: policies, schema and decision tables.
        accepted_standards: what counts as a validated module (G2.44, "or any equivalent which updates or replaces
            it"); the Panel may set the day from which only the successor does.
        information_classification: which modules keys of a classification may be in, for what G2.44 does not name;
            without a row every classification asks for level 3.
        smets1_exempt_level: lowest level of a module for what G2.44A exempts from level 3 (G2.45).

    """

    folder: FilePath
    accepted_standards: tuple[StandardSettings, ...] = (
        StandardSettings(standard="FIPS 140-2"),
        StandardSettings(standard="FIPS 140-3"),
    )
    information_classification: tuple[ClassificationSettings, ...] = ()
    smets1_exempt_level: Annotated[int, Field(ge=1, le=4)] = 3


class X509Settings(Section):
    """Certificates, requests and revocation lists; what is not set keeps the default of `X509Profile`.

    Args:
        known_oca: PEM files of OCA Certificates that an Organisation ARL may list beside those of the registered keys.

    The others are as `core/content/x509/profile.py` says.

    """

    root_policies: frozenset[str] | None = None
    issuing_policies: frozenset[str] | None = None
    organisation_policies: frozenset[str] | None = None
    root_days: int | None = None
    issuing_days: int | None = None
    organisation_days: int | None = None
    start_within_days: int | None = None
    organisation_roles: frozenset[int] | None = None
    serial_octets: int | None = None
    root_contingency_key: bool | None = None
    extra_extensions: frozenset[str] | None = None
    crl_shortest_seconds: int | None = None
    crl_longest_seconds: int | None = None
    arl_shortest_seconds: int | None = None
    arl_longest_seconds: int | None = None
    this_update_age_seconds: int | None = None
    clock_tolerance_seconds: int | None = None
    revocation_reasons: frozenset[int] | None = None
    certificate_octets: int | None = None
    request_octets: int | None = None
    crl_octets: int | None = None
    crl_entries: int | None = None
    known_oca: tuple[FilePath, ...] = ()


class GbcsSettings(Section):
    """Pre-Commands and Commands.

    Args:
        access_control_brokers: EUI-64s that may act for another party (supplementary fields).
        originators: PEM certificates for digital signatures of the Organisations whose Commands are given a MAC.
        device_authorities: PEM certificates of who certifies Devices; in `live` none means that no MAC is made.

    """

    access_control_brokers: tuple[EuiText, ...] = ()
    originators: tuple[FilePath, ...] = ()
    device_authorities: tuple[FilePath, ...] = ()


class DuisSettings(Section):
    """DUIS documents; without a schema none is read.

    Args:
        schema: the DUIS schema.
        xmldsig_schema: the W3C schema of XML signatures, which it imports.
        other_schemas: what else it imports.
        max_octets, max_depth: bounds of a document.

    """

    schema_file: Annotated[FilePath, Field(alias="schema")]
    xmldsig_schema: FilePath
    other_schemas: tuple[FilePath, ...] = ()
    max_octets: Annotated[int, Field(ge=1024)] | None = None
    max_depth: Annotated[int, Field(ge=8)] | None = None


class SupplySettings(Section):
    """Supply Sensitive Service Reference Variants (G3.23, G3.25).

    Args:
        sensitive_variants: as `7.1`. The Code's list was not found in public sources; the operator sets it.

    """

    sensitive_variants: tuple[str, ...] = ()


class RelevantSystemSettings(Section):
    """Which relevant system of G2.22A this deployment belongs to, and the other one (G2.22B(a)).

    Args:
        this: `cos-party` or `access-control-broker`.
        other: name of the other system, as it names itself in its origin statements.
        other_key: PEM file of the P-256 public key of its origin statements.
        other_entities: EUI-64s of the other system's entities that originate Commands; the broker's side needs them.

    """

    this: RelevantSystem
    other: Name
    other_key: FilePath
    other_entities: tuple[EuiText, ...] = ()

    @model_validator(mode="after")
    def _broker_knows_entities(self) -> Self:
        if self.this is RelevantSystem.ACCESS_CONTROL_BROKER and not self.other_entities:
            raise ValueError("the Access Control Broker needs other_entities, the CoS Party's EUI-64s")
        return self


class Settings(DutySettings):
    """The whole file."""

    deployment: DeploymentSettings
    server: ServerSettings
    store: StoreSettings
    log: LogSettings
    modules: tuple[ModuleSettings, ...]
    policy: PolicySettings
    x509: X509Settings = X509Settings()
    gbcs: GbcsSettings = GbcsSettings()
    duis: DuisSettings | None = None
    supply_sensitive: SupplySettings = SupplySettings()
    relevant_system: RelevantSystemSettings | None = None
    smets1: Smets1Settings = Smets1Settings()
    watch: WatchSettings | None = None
    witnesses: tuple[WitnessSettings, ...] = ()
    backup: BackupSettings = BackupSettings()

    @model_validator(mode="after")
    def _modules_differ(self) -> Self:
        names = [module.name for module in self.modules]
        if not names:
            raise ValueError("give at least one [[modules]] table")
        if len(set(names)) != len(names):
            raise ValueError("two modules have the same name")
        scheme = self.policy.information_classification
        if len({row.classification for row in scheme}) != len(scheme):
            raise ValueError("policy.information_classification has two rows of one classification")
        if unknown := {name for row in scheme for name in row.modules} - set(names):
            raise ValueError(
                f"policy.information_classification names {', '.join(sorted(unknown))}, which is no [[modules]] table"
            )
        if self.log.module is not None and self.log.module not in names:
            raise ValueError(f"log.module names {self.log.module}, which is no [[modules]] table")
        return self


def read_settings(path: Path) -> Settings:
    """Read the configuration file; Malformed as `read_toml`."""
    return read_toml(path, Settings)
