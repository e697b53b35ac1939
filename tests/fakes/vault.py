"""A Vault in memory: real P-256 keys by label and id, and faults on demand."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from cryptosvc.core import first_request
from cryptosvc.core.acts.base import Made
from cryptosvc.core.asset import IDENTITY
from cryptosvc.core.errors import Conflict, CryptosvcError, Unavailable
from cryptosvc.core.names import KeyId, ModuleName
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.transfer.proof import is_symmetric
from cryptosvc.flow.ports import HeldObject

_Name = tuple[str, str, bytes]


@dataclass
class FakeVault:
    """Implements `flow.ports.Vault`.

    Attributes:
        held: (module, label, object id) → key.
        failing: errors of the next calls that change something, raised before anything is done.
        failing_afterwards: the same, raised once it is done: what a lost answer looks like.
        done: what was done to which key, in order.
        changed: key id → how its object differs from its class's template.
        identities: module → what it reports; the same of all where none is set.

    """

    held: dict[_Name, ec.EllipticCurvePrivateKey] = field(default_factory=dict)
    failing: deque[CryptosvcError] = field(default_factory=deque)
    failing_afterwards: deque[CryptosvcError] = field(default_factory=deque)
    done: list[tuple[str, str]] = field(default_factory=list)
    changed: dict[str, list[str]] = field(default_factory=dict)
    identities: dict[ModuleName, Mapping[str, str]] = field(default_factory=dict)

    async def generate(self, key: KeyRecord) -> Made:
        """As the port says."""
        self._begin()
        if _name(key) in self.held:
            raise Conflict("an object of this label and id is there", rule="hsm/object-exists")
        made = self.held[_name(key)] = ec.generate_private_key(ec.SECP256R1())
        self._end("generate", key)
        facts = (*_first_request(key, made), *_facts(key))
        return Made(b"" if is_symmetric(key.key_class) else _point(made), facts)

    async def adopt(self, key: KeyRecord) -> Made:
        """As the port says."""
        self._begin()
        found = self.held.get(_name(key))
        if found is None:
            raise Unavailable("there is no such object", rule="hsm/object-missing")
        self._end("adopt", key)
        return Made(_point(found), _facts(key))

    async def destroy(self, key: KeyRecord) -> Made:
        """As the port says."""
        self._begin()
        count = 0 if self.held.pop(_name(key), None) is None else 1
        self._end("destroy", key)
        return Made(b"", (*_facts(key), ("objects_destroyed", str(count)), ("objects_left", "0")))

    async def objects(self, module: ModuleName) -> Sequence[HeldObject]:
        """As the port says: the private half of each, and the public one."""
        return [
            HeldObject(kind, label, object_id, _point(key) if kind == "public-key" else b"")
            for (where, label, object_id), key in sorted(self.held.items(), key=lambda one: one[0])
            for kind in ("private-key", "public-key")
            if where == module
        ]

    async def differences(
        self, module: ModuleName, keys: Sequence[KeyRecord]
    ) -> Mapping[KeyId, Sequence[str]]:
        """As the port says; what is here is as its class asks, save what `changed` says."""
        return {
            key.key_id: self.changed.get(
                str(key.key_id), [] if _name(key) in self.held else ["there is none"]
            )
            for key in keys
            if key.module == module
        }

    async def identity(self, module: ModuleName) -> Mapping[str, str]:
        """As the port says."""
        return self.identities.get(module, dict.fromkeys(IDENTITY, "as reported"))

    def _begin(self) -> None:
        if self.failing:
            raise self.failing.popleft()

    def _end(self, what: str, key: KeyRecord) -> None:
        self.done.append((what, str(key.key_id)))
        if self.failing_afterwards:
            raise self.failing_afterwards.popleft()


def _name(key: KeyRecord) -> _Name:
    return str(key.module), key.label, key.object_id


def _point(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def _facts(key: KeyRecord) -> tuple[tuple[str, str], ...]:
    return (("module", str(key.module)), ("object_label", key.label))


def _first_request(key: KeyRecord, made: ec.EllipticCurvePrivateKey) -> tuple[tuple[str, str], ...]:
    if not first_request.is_due(key):
        return ()
    signed = made.sign(first_request.information(key, _point(made)), ec.ECDSA(hashes.SHA256()))
    r, s = decode_dss_signature(signed)
    request = first_request.finished(key, _point(made), r.to_bytes(32) + s.to_bytes(32))
    return (("certification_request", request.hex()),)
