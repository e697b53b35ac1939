"""The public half of a device-transport key, for those who send device keys."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.adapters.hsm import faults
from cryptosvc.adapters.hsm.assurance import ModuleConfig
from cryptosvc.adapters.hsm.constants import Cka, Ckk, Cko
from cryptosvc.adapters.hsm.cryptoki import CryptokiError
from cryptosvc.adapters.hsm.objects import Locator, find
from cryptosvc.adapters.hsm.provision import RSA_EXPONENT, Provisioner
from cryptosvc.core.registry import KeyRecord


def public_key_pem(config: ModuleConfig, lock_folder: Path, key: KeyRecord) -> bytes:
    """SubjectPublicKeyInfo as PEM.

    Args:
        config: the module that holds the key.
        lock_folder: shared by all processes of the host that use the library.
        key: its record.

    Raises:
        Unavailable: the module is out of reach, or has no such key.

    """
    with Provisioner(config, lock_folder) as token:
        functions, session, _ = token.session_of_its_own()
        try:
            handle = find(functions, session, Locator(Cko.PUBLIC_KEY, Ckk.RSA, key.label, key.object_id, b""))
            modulus = functions.attribute(session, handle, Cka.MODULUS) or b""
        except CryptokiError as error:
            raise faults.translated(config.name, error, doing=f"reading key {key.label}") from None
    numbers = rsa.RSAPublicNumbers(int.from_bytes(RSA_EXPONENT), int.from_bytes(modulus))
    return numbers.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
