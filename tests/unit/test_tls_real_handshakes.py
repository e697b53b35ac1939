"""What the service signs completes handshakes of OpenSSL, in each version and on each side (G2.44(d))."""

import ssl

import pytest

from cryptosvc.core.names import ContentForm, ContentKind
from tests import tls_parties
from tests.tls_parties import OURS, PARSE, SCENARIOS, performed, signer

FACTS = {
    "1.2 server": {"side": "server", "structure": "server-key-exchange", "version": "1.2", "group": "23"},
    "1.2 client": {"side": "client", "structure": "certificate-verify", "version": "1.2", "suite": "C02B"},
    "1.3 server": {"side": "server", "structure": "certificate-verify", "version": "1.3", "suite": "1301"},
    "1.3 client": {"side": "client", "structure": "certificate-verify", "version": "1.3", "suite": "1301"},
}


@pytest.mark.parametrize("name", SCENARIOS)
def test_openssl_completes_the_handshake_and_has_our_certificate(name: str) -> None:
    stack = performed(name)
    assert stack.them.getpeercert(binary_form=True) == tls_parties.der(OURS)
    assert stack.them.version() == f"TLSv{name[:3]}"
    ((form, payload),) = stack.asked
    content = PARSE[ContentForm(form)](payload)
    assert content.kind is ContentKind.TLS_HANDSHAKE
    assert dict(content.facts) == FACTS[name.removesuffix(", retried")]


@pytest.mark.parametrize("name", SCENARIOS)
def test_openssl_refuses_a_signature_over_anything_else(name: str) -> None:
    """The referee would notice: with one octet of what is signed changed, its handshake fails."""

    def lying(form: str, payload: bytes) -> bytes:
        made = bytearray(signer(form, payload))
        made[-1] ^= 1
        return bytes(made)

    with pytest.raises(ssl.SSLError, match=r"(?i)signature|decrypt"):
        performed(name, lying)
