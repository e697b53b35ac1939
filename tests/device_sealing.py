"""A token with the storage keys of a device store, and import files for it, for tests of sealing."""

import secrets
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.keywrap import aes_key_wrap_with_padding

from cryptosvc.adapters.hsm.constants import Cka, Cko
from cryptosvc.adapters.hsm.cryptoki import number
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.sealing import Sealer
from cryptosvc.core.device_file import Line
from cryptosvc.core.device_keys import DeviceKey
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import KeyId
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.transfer.mechanism import OaepHash
from tests.claims import key_record
from tests.device_rows import row
from tests.hsm_fixtures import TestToken


@dataclass(frozen=True)
class Storage:
    """Records of the storage keys of a token, and the public half of its transport key."""

    epoch: KeyRecord
    next_epoch: KeyRecord
    binding: KeyRecord
    transport: KeyRecord
    public: rsa.RSAPublicKey


def make_storage(token: TestToken) -> Storage:
    names = {
        "epoch-1": "storage-wrapping",
        "epoch-2": "storage-wrapping",
        "binding-1": "storage-binding",
        "transport-1": "device-transport",
    }
    with Provisioner(token.config, token.locks) as provisioner:
        for place, (name, key_class) in enumerate(names.items(), 1):
            provisioner.generate(name, bytes([place]), ceiling(key_class).template)
        functions, session = provisioner._library.functions, provisioner._session
        wanted = [(Cka.CLASS, number(Cko.PUBLIC_KEY)), (Cka.LABEL, b"transport-1")]
        (handle,) = functions.find(session, wanted, 2)
        modulus = int.from_bytes(functions.attribute(session, handle, Cka.MODULUS) or b"")
    epoch, next_epoch, binding, transport = (
        key_record(label=name, key_class=key_class, object_id=bytes([place]), module=token.config.name)
        for place, (name, key_class) in enumerate(names.items(), 1)
    )
    return Storage(epoch, next_epoch, binding, transport, rsa.RSAPublicNumbers(65537, modulus).public_key())


def wrapped_file_key(storage: Storage, file_key: bytes, oaep: OaepHash = OaepHash.SHA_1) -> bytes:
    chosen = hashes.SHA256() if oaep is OaepHash.SHA_256 else hashes.SHA1()  # noqa: S303 - what SoftHSM has
    return storage.public.encrypt(file_key, padding.OAEP(padding.MGF1(chosen), chosen, None))


def check_value(key: bytes) -> bytes:
    encryptor = Cipher(algorithms.AES(key), modes.ECB()).encryptor()  # noqa: S305 - the check value is made so
    return encryptor.update(bytes(16))[:3]


def arrived(file_key: bytes, number_of_device: int, key: bytes | None = None, **row_choices: object) -> Line:
    """A key as a file brings it; random where none is given."""
    key = key or secrets.token_bytes(16)
    bare = replace(
        row(number_of_device, **row_choices),  # type: ignore[arg-type]  # a test's keywords
        blob=b"",
        tag=b"",
        wrapping=KeyId(""),
        binding=KeyId(""),
        check_value=check_value(key),
    )
    return Line(bare, aes_key_wrap_with_padding(file_key, key))


def sealer_of(provisioner: Provisioner) -> Sealer:
    return Sealer(provisioner._library.functions, provisioner._session, provisioner.mechanisms)


def arrive_one(sealer: Sealer, storage: Storage, key: bytes, number_of_device: int = 1) -> DeviceKey:
    """One key, through a file of its own."""
    file_key = secrets.token_bytes(32)
    handle = sealer.open_file_key(storage.transport, wrapped_file_key(storage, file_key), OaepHash.SHA_1)
    found = sealer.arrive(handle, arrived(file_key, number_of_device, key), storage.epoch, storage.binding)
    assert isinstance(found, DeviceKey)
    return found
