"""The enveloped XML signature of a DUIS document, written as octets.

One Reference, `URI=""`, with the enveloped-signature transform and no other: the document digest is over inclusive
Canonical XML 1.0 without comments of the whole document but for the signature, which is what a Reference without a
canonicalisation transform means. What the key signs is the ds:SignedInfo in *exclusive* canonical form. Mixing the two
up gives a digest that no receiver accepts.

Inside the document the same elements stand in the ds:Signature, which declares the prefix; a receiver who canonicalises
ds:SignedInfo there gets the signed octets back, whatever namespaces the document around it declares.

Source: XML Signature Syntax and Processing 1.1, 4.4.3 and 6.6.4; RFC 4050 3.3 and XMLDSIG 1.1 6.4.3 (r‖s); signatures
of the DCC's published samples.
"""

import hashlib
from base64 import b64encode
from functools import lru_cache
from xml.sax.saxutils import escape

from lxml import etree

from cryptosvc.core.content.duis.sanitise import SIGNATURE_NAMESPACE
from cryptosvc.core.content.x509.identity import read_certificate

_DECLARATION = f' xmlns:ds="{SIGNATURE_NAMESPACE}"'.encode()

_BEFORE_DIGEST = (
    b"<ds:SignedInfo" + _DECLARATION + b">"
    b'<ds:CanonicalizationMethod Algorithm="http://www.w3.org/2001/10/xml-exc-c14n#"></ds:CanonicalizationMethod>'
    b'<ds:SignatureMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#ecdsa-sha256"></ds:SignatureMethod>'
    b'<ds:Reference URI=""><ds:Transforms>'
    b'<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></ds:Transform>'
    b"</ds:Transforms>"
    b'<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></ds:DigestMethod><ds:DigestValue>'
)
_AFTER_DIGEST = b"</ds:DigestValue></ds:Reference></ds:SignedInfo>"


def signed_info(root: etree._Element) -> bytes:
    """Digest the document under `root`, which has no signature yet, and write its ds:SignedInfo in canonical form."""
    canonical = etree.tostring(root.getroottree(), method="c14n", exclusive=False, with_comments=False)
    return _BEFORE_DIGEST + b64encode(hashlib.sha256(canonical).digest()) + _AFTER_DIGEST


def signature_element(signed_info_octets: bytes, signature: bytes, certificate: bytes) -> bytes:
    """Write the ds:Signature element.

    Args:
        signed_info_octets: as `signed_info` wrote it.
        signature: r‖s, 64 octets.
        certificate: DER of the certificate of the key that signed.

    """
    return b"".join(
        (
            b"<ds:Signature",
            _DECLARATION,
            b">",
            signed_info_octets.replace(_DECLARATION, b"", 1),
            b"<ds:SignatureValue>",
            b64encode(signature),
            b"</ds:SignatureValue>",
            _key_info(certificate),
            b"</ds:Signature>",
        )
    )


@lru_cache(maxsize=1024)
def _key_info(certificate: bytes) -> bytes:
    facts = read_certificate(certificate)
    return (
        "<ds:KeyInfo><ds:X509Data><ds:X509IssuerSerial>"
        f"<ds:X509IssuerName>{escape(facts.issuer_text)}</ds:X509IssuerName><ds:X509SerialNumber>{facts.serial}</ds:X509SerialNumber>"
        "</ds:X509IssuerSerial></ds:X509Data></ds:KeyInfo>"
    ).encode()
