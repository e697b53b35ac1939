"""A verifier of enveloped XML signatures, written from the specification and sharing nothing with the service's code.

It starts from the finished octets as a receiver does: parse, take the one ds:Signature out, digest what is left, and
canonicalise ds:SignedInfo where it stands. That it is right is shown on the DCC's published signed samples.
"""

import base64
import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from lxml import etree

DS = "{http://www.w3.org/2000/09/xmldsig#}"
ALGORITHMS = {
    "CanonicalizationMethod": "http://www.w3.org/2001/10/xml-exc-c14n#",
    "SignatureMethod": "http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256",
    "Transform": "http://www.w3.org/2000/09/xmldsig#enveloped-signature",
    "DigestMethod": "http://www.w3.org/2001/04/xmlenc#sha256",
}


class NotSigned(Exception):
    """The document is not validly signed; the text says what is wrong."""


def issuer_and_serial(document: bytes) -> tuple[str, int]:
    """What the ds:KeyInfo says."""
    root = _parsed(document)
    return root.findtext(f".//{DS}X509IssuerName"), int(root.findtext(f".//{DS}X509SerialNumber"))


def signed_info_octets(document: bytes) -> bytes:
    """The ds:SignedInfo of a finished document in exclusive canonical form."""
    found = etree.fromstring(document).find(f".//{DS}SignedInfo")
    return etree.tostring(found, method="c14n", exclusive=True, with_comments=False)


def verify(document: bytes, key: ec.EllipticCurvePublicKey) -> None:
    """Raise NotSigned unless the document carries one valid enveloped signature by `key`."""
    root = _parsed(document)
    signatures = list(root.iter(f"{DS}Signature"))
    if len(signatures) != 1 or signatures[0].getparent() is not root or root[-1] is not signatures[0]:
        raise NotSigned("one ds:Signature as last child of the root")
    signature = signatures[0]
    for name, algorithm in ALGORITHMS.items():
        if [one.get("Algorithm") for one in signature.iter(DS + name)] != [algorithm]:
            raise NotSigned(name)
    references = list(signature.iter(f"{DS}Reference"))
    if len(references) != 1 or references[0].get("URI") != "":
        raise NotSigned("one Reference to the whole document")
    signed_info = etree.tostring(signature.find(f"{DS}SignedInfo"), method="c14n", exclusive=True)
    stated = base64.b64decode(references[0].findtext(f"{DS}DigestValue"))
    value = base64.b64decode(signature.findtext(f"{DS}SignatureValue"))
    _take_out(signature)
    if (
        hashlib.sha256(etree.tostring(root.getroottree(), method="c14n", with_comments=False)).digest()
        != stated
    ):
        raise NotSigned("DigestValue")
    if len(value) != 64:
        raise NotSigned("SignatureValue is not r and s")
    der = encode_dss_signature(int.from_bytes(value[:32]), int.from_bytes(value[32:]))
    try:
        key.verify(der, signed_info, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise NotSigned("SignatureValue") from None


def _parsed(document: bytes) -> etree._Element:
    if b"<!DOCTYPE" in document:
        raise NotSigned("DOCTYPE")
    return etree.fromstring(document, etree.XMLParser(resolve_entities=False, load_dtd=False))


def _take_out(element: etree._Element) -> None:
    """Remove an element and leave its tail where it is; lxml would take the tail along."""
    parent, before, tail = element.getparent(), element.getprevious(), element.tail or ""
    parent.remove(element)
    if before is None:
        parent.text = (parent.text or "") + tail
    else:
        before.tail = (before.tail or "") + tail
