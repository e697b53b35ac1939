"""`RemotePrivateKey`: a pyca/cryptography private key whose signing is done by the service.

pyca's builders hand a key the complete bytes of what they build, so the service can read them:

    key = RemotePrivateKey.of(client, "issuing-oca-1")
    certificate = x509.CertificateBuilder(...).sign(key, hashes.SHA256())

What those bytes are is seen from the bytes: a TBSCertificate, a CertificationRequestInfo or a TBSCertList. Anything
else is refused here already, and above all a digest: a key signs nothing it was not shown (G2.56, G2.60, G2.61).
"""

from typing import Final, NoReturn, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, encode_dss_signature

from cryptosvc.client.calls import Client
from cryptosvc.client.messages import request
from cryptosvc.pb.v1 import crypto_pb2

_COORDINATE_OCTETS = 32
_SEQUENCE: Final = 0x30
_EXPLICIT_ZERO: Final = b"\xa0"
_INTEGER_ZERO: Final = b"\x02\x01\x00"
_INTEGER_ONE: Final = b"\x02\x01\x01"


class RemotePrivateKey(ec.EllipticCurvePrivateKey):
    """A P-256 key that stays where it is.

    Args:
        client: a blocking client; calls are made on the thread that signs.
        key_id: the key.
        public_key: its public half.

    `sign` raises the classes of `cryptosvc.client.errors`.
    """

    def __init__(self, client: Client, key_id: str, public_key: ec.EllipticCurvePublicKey) -> None:
        self._client = client
        self._key_id = key_id
        self._public_key = public_key

    @classmethod
    def of(cls, client: Client, key_id: str) -> Self:
        """Ask the service for the public half; NotPermitted where the caller has no such key."""
        point = client.get_key(key_id).public_point
        return cls(client, key_id, ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point))

    @property
    def key_id(self) -> str:
        """The service's name of the key."""
        return self._key_id

    @property
    def curve(self) -> ec.EllipticCurve:
        """P-256."""
        return self._public_key.curve

    @property
    def key_size(self) -> int:
        """256."""
        return self._public_key.key_size

    def public_key(self) -> ec.EllipticCurvePublicKey:
        """The public half."""
        return self._public_key

    def sign(
        self, data: bytes | bytearray | memoryview, signature_algorithm: ec.EllipticCurveSignatureAlgorithm
    ) -> bytes:
        """Have complete bytes signed, ECDSA over SHA-256; returns DER.

        Raises:
            UnsupportedAlgorithm: another algorithm, or a digest instead of the bytes.
            ValueError: bytes that are no TBSCertificate, CertificationRequestInfo or TBSCertList.
            CallError: what the service said.

        """
        algorithm = signature_algorithm.algorithm
        if isinstance(algorithm, Prehashed):
            raise UnsupportedAlgorithm(
                "a digest cannot be signed: the service must read what a key signs (SEC G2.56, G2.60, G2.61); "
                "hand over the whole bytes"
            )
        if not (isinstance(signature_algorithm, ec.ECDSA) and isinstance(algorithm, hashes.SHA256)):
            raise UnsupportedAlgorithm("keys of the service sign with ECDSA over SHA-256 only")
        answer = self._client.sign(question(self._key_id, bytes(data)))
        r = int.from_bytes(answer.signature[:_COORDINATE_OCTETS])
        s = int.from_bytes(answer.signature[_COORDINATE_OCTETS:])
        return encode_dss_signature(r, s)

    def exchange(self, algorithm: ec.ECDH, peer_public_key: ec.EllipticCurvePublicKey) -> bytes:  # noqa: ARG002 - pyca's
        """Refuse: a signing key never derives (G2.44(b))."""
        _refuse("a signing key never derives (SEC G2.44(b))")

    def private_numbers(self) -> ec.EllipticCurvePrivateNumbers:
        """Refuse: the key does not leave its module."""
        _refuse("the key does not leave its module")

    def private_bytes(
        self,
        encoding: serialization.Encoding,  # noqa: ARG002 - pyca's signature
        format: serialization.PrivateFormat,  # noqa: A002, ARG002 - pyca's signature
        encryption_algorithm: serialization.KeySerializationEncryption,  # noqa: ARG002 - pyca's signature
    ) -> bytes:
        """Refuse: the key does not leave its module."""
        _refuse("the key does not leave its module")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, object]) -> Self:
        return self


def question(key_id: str, tbs: bytes) -> crypto_pb2.SignRequest:
    """Make a request of to-be-signed bytes, by what they are; ValueError where they are none of the three.

    The first element tells them apart: a TBSCertificate of version 3 opens with an explicit [0], a
    CertificationRequestInfo with INTEGER 0, a TBSCertList of version 2 with INTEGER 1.

    Source: RFC 5280 4.1 and 5.1; RFC 2986 4.1.
    """
    first = _first_element(tbs)
    if first[:1] == _EXPLICIT_ZERO:
        return request(key_id, tbs_certificate=tbs)
    if first == _INTEGER_ZERO:
        return request(key_id, certification_request_info=tbs)
    if first == _INTEGER_ONE:
        return request(key_id, tbs_cert_list=tbs)
    raise ValueError("neither a TBSCertificate nor a CertificationRequestInfo nor a TBSCertList of version 2")


def _first_element(tbs: bytes) -> bytes:
    """The first three octets inside the outer SEQUENCE; empty where there is none."""
    if len(tbs) < 2 or tbs[0] != _SEQUENCE:
        return b""
    length_octets = tbs[1] & 0x7F if tbs[1] & 0x80 else 0
    return tbs[2 + length_octets : 5 + length_octets]


def _refuse(why: str) -> NoReturn:
    raise UnsupportedAlgorithm(why)
