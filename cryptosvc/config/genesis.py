"""The file a genesis is drawn up from: the first custodians, and callers that may hand in what they sign.

[log_keys]
classification = "secret"
responsible = "Ada Lovelace"

[[custodians]]
id = "ada"
person = "employee 4711"
name = "Ada Lovelace"
key = "ada.pub.pem"
roles = ["key-custodian"]
screening_standard = "BS 7858:2019"
screened_on = 2026-01-15
clearance = "SC"
clearance_reviewed_on = 2026-06-01
security_check_on = 2026-01-20
privileged_since = 2026-02-01

[[callers]]
id = "office"
certificate = "office.pem"
"""

from datetime import date
from pathlib import Path

from pydantic import Field

from cryptosvc.config.reading import Section, read_toml
from cryptosvc.config.settings import FilePath, Name
from cryptosvc.core.custodian import CustodianRole, Side


class AssetEntry(Section):
    """A line of the asset register (G5.6, G5.21)."""

    classification: str = Field(min_length=1)
    responsible: str = Field(min_length=1)


class EngagementEntry(Section):
    """Somebody is or was engaged on the DCC's systems or a User's (G2.24, G3.13)."""

    side: Side
    since: date
    until: date | None = None


class CustodianEntry(Section):
    """One of the first custodians.

    Args:
        id: unique in the register.
        person: reference that names one person.
        name: to show.
        key: PEM of the public key that signs statements.
        certificate: PEM of the certificate over it, where there is one.
        roles: what they act as.
        in_united_kingdom: where they work (G4.3, G4.6).
        screening_standard, screened_on: screening.
        clearance, clearance_reviewed_on: security clearance and its last review.
        security_check_on: when they passed a Security Check (G4.7).
        privileged_since: Privileged Person for this system since then.
        engagements: on DCC or User systems.

    """

    id: Name
    person: str = Field(min_length=1)
    name: str = Field(min_length=1)
    key: FilePath
    certificate: FilePath | None = None
    roles: frozenset[CustodianRole] = Field(min_length=1)
    in_united_kingdom: bool = True
    screening_standard: str
    screened_on: date
    clearance: str
    clearance_reviewed_on: date
    security_check_on: date | None = None
    privileged_since: date
    engagements: tuple[EngagementEntry, ...] = ()


class OfficeEntry(Section):
    """A caller that hands in statements and approvals, or reads the log.

    Args:
        id: unique in the deployment.
        certificate: PEM of its TLS client certificate.
        govern: may hand in.
        auditor: may read the log and the registers.

    """

    id: Name
    certificate: FilePath
    govern: bool = True
    auditor: bool = False


class GenesisFile(Section):
    """The whole file."""

    log_keys: AssetEntry
    custodians: tuple[CustodianEntry, ...] = Field(min_length=1)
    callers: tuple[OfficeEntry, ...] = Field(min_length=1)


def read_genesis_file(path: Path) -> GenesisFile:
    """Read the file; Malformed as `read_toml`."""
    return read_toml(path, GenesisFile)
