"""DUIS documents of our own, and what signs them: the demo schema, a User's key, the DCC's key."""

import base64
from dataclasses import dataclass, replace
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from lxml import etree

from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.duis.profile import DuisProfile, duis_profile
from cryptosvc.core.content.gbcs import framing
from cryptosvc.core.registry import KeyRecord
from tests import certificates

EXAMPLES = Path(__file__).resolve().parent.parent / "examples" / "duis"
NAMESPACE = "http://www.dccinterface.co.uk/ServiceUserGateway"
USER = "90-B3-D5-1F-30-01-00-00"
STRANGER = "90-B3-D5-1F-30-02-00-00"
DCC = "90-B3-D5-1F-30-00-00-02"
DEVICE = "00-00-5E-EF-10-00-00-2A"

READ_INVENTORY = f"<sr:ReadInventory><sr:DeviceID>{DEVICE}</sr:DeviceID></sr:ReadInventory>"
DISABLE_SUPPLY = "<sr:DisableSupply/>"

STATEMENT = Statement(service_reference_variant="8.2", user_id=USER, user_role="IS")


def demo_profile() -> DuisProfile:
    """The profile of the example schema."""
    return duis_profile((EXAMPLES / "demo.xsd").read_bytes(), (EXAMPLES / "xmldsig-subset.xsd").read_bytes())


def dcc_profile(gbcs_data: Path) -> DuisProfile:
    """The profile of the DCC's schema."""
    folder = gbcs_data / "duis_xsd"
    return duis_profile(
        (folder / "DUIS Schema V5.4.xsd").read_bytes(),
        (folder / "xmldsig-core-schema.xsd").read_bytes(),
        [(folder / "MMC Schema V5.4.xsd").read_bytes()],
    )


def request(
    *,
    originator: str = USER,
    target: str = DCC,
    counter: int | str = 1,
    command_variant: str = "8",
    reference: str = "8.2",
    variant: str = "8.2",
    body: str = READ_INVENTORY,
    request_id: str | None = None,
    extra_header: str = "",
) -> bytes:
    """A Service Request; Read Inventory unless told otherwise."""
    return (
        f'<sr:Request xmlns:sr="{NAMESPACE}" schemaVersion="5.4"><sr:Header>'
        f"<sr:RequestID>{request_id or f'{originator}:{target}:{counter}'}</sr:RequestID>{extra_header}"
        f"<sr:CommandVariant>{command_variant}</sr:CommandVariant>"
        f"<sr:ServiceReference>{reference}</sr:ServiceReference>"
        f"<sr:ServiceReferenceVariant>{variant}</sr:ServiceReferenceVariant>"
        f"</sr:Header><sr:Body>{body}</sr:Body></sr:Request>"
    ).encode()


def pre_command(
    *,
    originator: str = USER,
    target: str = DEVICE,
    counter: int = 1,
    code: int = 0x0050,
    supplementary: bytes = b"",
) -> bytes:
    """A Pre-Command with a null signature; the payload behind its header is of no consequence here."""
    return framing.build(
        code=code,
        originator=bytes.fromhex(originator.replace("-", "")),
        target=bytes.fromhex(target.replace("-", "")),
        counter=counter,
        payload=b"\xd9payload",
        supplementary=supplementary,
    )


def signed_pre_command(**choices: object) -> bytes:
    """The same with 0x40 and 64 octets where the null signature was."""
    return pre_command(**choices)[:-1] + b"\x40" + bytes(range(64))


def signed_request(payload: bytes | None = None, *, text: str | None = None, **choices: object) -> bytes:
    """A Service Request 7.2 that carries a Signed Pre-Command."""
    text = (
        base64.b64encode(signed_pre_command() if payload is None else payload).decode()
        if text is None
        else text
    )
    chosen: dict[str, object] = {
        "target": DEVICE,
        "command_variant": "5",
        "reference": "7.2",
        "variant": "7.2",
    }
    body = f"<sr:SignedPreCommand><sr:GBCSPayload>{text}</sr:GBCSPayload></sr:SignedPreCommand>"
    return request(body=body, **(chosen | choices))


@dataclass(frozen=True)
class Signer:
    """A private key and the record of it."""

    private: ec.EllipticCurvePrivateKey
    record: KeyRecord

    def sign(self, signed_bytes: bytes) -> bytes:
        """r‖s, 64 octets."""
        r, s = decode_dss_signature(self.private.sign(signed_bytes, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)


def signer(role: int = 135, entity: str = USER, *, issuer: str = "Z1") -> Signer:
    """An xml-signing key of an entity, with a certificate under a test Issuing OCA."""
    private = certificates.key_pair(f"xml {role} {entity}")
    issuing = certificates.issuing_authority(certificates.root_authority(), issuer)
    certificate = certificates.organisation_certificate(
        issuing, private.public_key(), role=role, entity=entity
    )
    record = certificates.key_record(
        "xml-signing", private.public_key(), certificate, role=role, entity=entity
    )
    return Signer(private, record)


def without_certificate(one: Signer) -> KeyRecord:
    """The record of a key that has no certificate yet."""
    return replace(one.record, certificate=b"")


def stripped(sample: bytes) -> bytes:
    """A published sample without its (placeholder) signature and without comments: as a caller would send it."""
    root = etree.fromstring(sample, etree.XMLParser(remove_comments=True, resolve_entities=False))
    for signature in root.findall("{http://www.w3.org/2000/09/xmldsig#}Signature"):
        root.remove(signature)
    return etree.tostring(root, xml_declaration=True, encoding="UTF-8")
