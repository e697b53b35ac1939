"""Lint: pkilint's RFC 5280 rules over a throwaway-signed copy, loaded once, on first use.

A finding of severity WARNING or worse refuses. What is waived is listed here with its reason.

Source: pkilint's RFC 5280 certificate and CRL validators.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Protocol

from cryptosvc.core.errors import Malformed

_WAIVED_FOR_ROOT = frozenset(
    {
        # pkilint lets a self-signed root omit it, but looks at the signature to know; the throwaway copy's is not
        # the root's. `certificate` requires issuer equal to subject and, in `bind`, the key's own point.
        "pkix.authority_key_identifier_extension_absent",
    }
)

_Linter = Callable[[bytes], frozenset[str]]

_WARNING = 2
"""pkilint's severities: 0 fatal, 1 error, 2 warning, 3 notice, …"""


class _Finding(Protocol):
    severity: int
    code: str


class _Description(Protocol):
    finding: _Finding


class _Result(Protocol):
    finding_descriptions: Iterable[_Description]


class _Document(Protocol):
    root: object


def certificate(copy: bytes, *, root: bool) -> None:
    """Refuse a certificate that pkilint finds fault with; `root` where issuer and subject are one."""
    _refuse(_run(_certificate_linter(), copy) - (_WAIVED_FOR_ROOT if root else frozenset()))


def revocation_list(copy: bytes) -> None:
    """Refuse a revocation list that pkilint finds fault with."""
    _refuse(_run(_crl_linter(), copy))


def _run(linter: _Linter, copy: bytes) -> frozenset[str]:
    try:
        return linter(copy)
    except Exception:  # noqa: BLE001 -- pkilint raises whatever its decoder raises; all of it means no
        raise Malformed("the linter cannot read the structure", rule="lint/unreadable") from None


def _refuse(findings: frozenset[str]) -> None:
    if findings:
        raise Malformed(f"lint: {', '.join(sorted(findings))}", rule="lint/finding")


@lru_cache(maxsize=1)
def _certificate_linter() -> _Linter:
    from pkilint import loader  # noqa: PLC0415 -- pkilint takes a second to load; only OCA keys need it
    from pkilint.pkix import certificate as rules  # noqa: PLC0415 -- likewise
    from pkilint.pkix import extension, name  # noqa: PLC0415 -- likewise
    from pyasn1.type.univ import ObjectIdentifier  # noqa: PLC0415 -- likewise
    from pyasn1_alt_modules import rfc5280  # noqa: PLC0415 -- likewise

    # pkilint takes an attribute type it does not know for a DirectoryString; x500UniqueIdentifier is a BIT STRING.
    names = {**name.ATTRIBUTE_TYPE_MAPPINGS, ObjectIdentifier("2.5.4.45"): rfc5280.UniqueIdentifier()}
    validator = rules.create_pkix_certificate_validator_container(
        rules.create_decoding_validators(names, extension.EXTENSION_MAPPINGS),
        [
            rules.create_issuer_validator_container([]),
            rules.create_validity_validator_container(),
            rules.create_subject_validator_container([]),
            rules.create_extensions_validator_container([]),
            rules.create_spki_validator_container([]),
        ],
    )
    return _linter(loader.load_der_certificate, validator.validate)


@lru_cache(maxsize=1)
def _crl_linter() -> _Linter:
    from pkilint import loader, pkix  # noqa: PLC0415 -- pkilint takes a second to load; only OCA keys need it
    from pkilint.pkix import crl as rules  # noqa: PLC0415 -- likewise
    from pkilint.pkix import extension, name  # noqa: PLC0415 -- likewise

    validator = rules.create_pkix_crl_validator_container(
        [
            pkix.create_attribute_decoder(name.ATTRIBUTE_TYPE_MAPPINGS),
            pkix.create_extension_decoder(extension.EXTENSION_MAPPINGS),
        ],
        [
            rules.create_issuer_validator_container([]),
            rules.create_validity_validator_container([]),
            rules.create_extensions_validator_container([]),
        ],
    )
    return _linter(loader.load_der_crl, validator.validate)


def _linter(load: Callable[[bytes], _Document], validate: Callable[[object], Iterable[_Result]]) -> _Linter:
    def findings(copy: bytes) -> frozenset[str]:
        return frozenset(
            description.finding.code
            for result in validate(load(copy).root)
            for description in result.finding_descriptions
            if description.finding.severity <= _WARNING
        )

    return findings
