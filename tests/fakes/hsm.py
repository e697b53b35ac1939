"""An Hsm in memory: real P-256 and HMAC keys, found by label and id as on a token, and faults on demand."""

import hashlib
import hmac
import secrets
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.core.case import ModuleFacts
from cryptosvc.core.errors import Corrupt, CryptosvcError, Unavailable
from cryptosvc.core.names import ModuleName
from cryptosvc.core.record import Claim, Failed, Produced
from cryptosvc.core.registry import KeyRecord
from tests.claims import module_facts

Key = TypeVar("Key")
_ECDSA_OVER_DIGEST = ec.ECDSA(Prehashed(hashes.SHA256()))


@dataclass
class FakeModule:
    """One module's objects: (label, id) → keys; two under one name are two objects."""

    facts: ModuleFacts
    signing: dict[tuple[str, bytes], list[ec.EllipticCurvePrivateKey]] = field(default_factory=dict)
    secret: dict[tuple[str, bytes], list[bytes]] = field(default_factory=dict)
    gone: bool = False


class FakeHsm:
    """Implements `flow.ports.Hsm`, plus `head_mac`.

    Args:
        modules: facts of each module.

    Attributes:
        next_errors: errors for the next items signed, one each; None signs.
        signed: claims whose key was used, in order.

    """

    def __init__(self, modules: Iterable[ModuleFacts] = (module_facts(),)) -> None:
        self.modules = {facts.name: FakeModule(facts) for facts in modules}
        self.next_errors: deque[CryptosvcError | None] = deque()
        self.signed: list[Claim] = []

    def generate(self, label: str, object_id: bytes, module: str = "module") -> bytes:
        """Make a signing key; its public point, 65 octets."""
        return self.plant(label, object_id, ec.generate_private_key(ec.SECP256R1()), module)

    def plant(
        self, label: str, object_id: bytes, key: ec.EllipticCurvePrivateKey, module: str = "module"
    ) -> bytes:
        """Put a given key there, beside any that has this label and id already; its public point."""
        self.modules[ModuleName(module)].signing.setdefault((label, object_id), []).append(key)
        return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def generate_secret(self, label: str, object_id: bytes, module: str = "module") -> None:
        """Make an HMAC key."""
        secret = self.modules[ModuleName(module)].secret
        secret.setdefault((label, object_id), []).append(secrets.token_bytes(32))

    def start(self) -> None:
        """Nothing to start."""

    def close(self) -> None:
        """Every module is gone."""
        for module in self.modules.values():
            module.gone = True

    def facts(self, module: ModuleName) -> ModuleFacts:
        """As the port says."""
        return self._module(module).facts

    async def sign(self, claims: Sequence[Claim]) -> Sequence[Produced | Failed]:
        """As the port says."""
        return [self._sign(claim) for claim in claims]

    def head_mac(self, key: KeyRecord) -> "FakeHeadMac":
        """As `Pkcs11Hsm.head_mac`."""
        if key.public_point:
            raise Corrupt("not a symmetric key", rule="hsm/mac-key")
        if key.module not in self.modules:
            raise Unavailable("not in the configuration", rule="hsm/not-configured")
        return FakeHeadMac(self, key)

    def _sign(self, claim: Claim) -> Produced | Failed:
        case = claim.authorised.case
        try:
            if self.next_errors and (error := self.next_errors.popleft()) is not None:
                raise error
            key = _only(self._module(case.key.module).signing, case.key)
            point = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            if point != case.key.public_point:
                raise Corrupt("the object is not the recorded one", rule="hsm/public-point")
        except CryptosvcError as error:
            return Failed(claim, error)
        self.signed.append(claim)
        digest = hashlib.sha256(case.content.signed_bytes).digest()
        r, s = decode_dss_signature(key.sign(digest, _ECDSA_OVER_DIGEST))
        return Produced(claim, r.to_bytes(32) + s.to_bytes(32))

    def _module(self, name: ModuleName) -> FakeModule:
        module = self.modules.get(name)
        if module is None:
            raise Unavailable("not in the configuration", rule="hsm/not-configured")
        if module.gone:
            raise Unavailable("the module is out of reach", rule="hsm/gone")
        return module


class FakeHeadMac:
    """HMAC-SHA256 with a key of the fake."""

    def __init__(self, hsm: FakeHsm, key: KeyRecord) -> None:
        self._hsm = hsm
        self._key = key

    def mac(self, data: bytes) -> bytes:
        """HMAC-SHA256 of `data`; Unavailable where the module or the key is gone."""
        return hmac.digest(_only(self._hsm._module(self._key.module).secret, self._key), data, "sha256")

    def verify(self, data: bytes, mac: bytes) -> None:
        """Raise Corrupt unless `mac` is that of `data`."""
        if not hmac.compare_digest(self.mac(data), mac):
            raise Corrupt("the head does not verify", rule="log/head-mac")


def _only(keys: dict[tuple[str, bytes], list[Key]], record: KeyRecord) -> Key:
    match keys.get((record.label, record.object_id), []):
        case []:
            raise Unavailable("no such object", rule="hsm/object-missing")
        case [key]:
            return key
        case _:
            raise Corrupt("two such objects", rule="hsm/object-ambiguous")
