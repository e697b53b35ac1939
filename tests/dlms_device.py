"""A Device's side of DLMS security suite 0, in other software: pyca's AES-GCM and AES-CTR."""

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

EK, AK = bytes(range(16)), bytes(range(0xD0, 0xE0))
GLO_GET_RESPONSE = 0xCC


def protected(
    security: int,
    title: bytes,
    counter: int,
    plain: bytes,
    *,
    ek: bytes = EK,
    ak: bytes = AK,
    tag: int = GLO_GET_RESPONSE,
) -> bytes:
    """A whole APDU of at most 127 octets."""
    header = bytes((security,)) + counter.to_bytes(4)
    body = header + sealed(security, title, counter, plain, ek=ek, ak=ak)
    return bytes((tag, len(body))) + body


def sealed(
    security: int, title: bytes, counter: int, plain: bytes, *, ek: bytes = EK, ak: bytes = AK
) -> bytes:
    """What follows the header."""
    vector = title + counter.to_bytes(4)
    if security == 0x20:
        stream = Cipher(algorithms.AES(ek), modes.CTR(vector + bytes((0, 0, 0, 2)))).encryptor()
        return stream.update(plain)
    gcm = Cipher(algorithms.AES(ek), modes.GCM(vector)).encryptor()
    gcm.authenticate_additional_data(bytes((security,)) + ak + (plain if security == 0x10 else b""))
    made = gcm.update(b"" if security == 0x10 else plain) + gcm.finalize()
    return (plain if security == 0x10 else made) + gcm.tag[:12]
