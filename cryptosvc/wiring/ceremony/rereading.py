"""The second look: a fresh session on the module, pyca/cryptography on every paper, the registry as the log proves it.

Nothing here was told by the act that is looked at: the objects are listed by the module in a new session, papers are
parsed and their signatures verified by pyca under the public points of the registry.
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import orjson
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm

from cryptosvc.core import checkpoint as notes
from cryptosvc.core import destruction
from cryptosvc.core.acts.base import text_of
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.ceremony.acts import Act
from cryptosvc.core.ceremony.rows import ActKind, Thing
from cryptosvc.core.ceremony.script import Script
from cryptosvc.core.errors import Corrupt, CryptosvcError, Malformed
from cryptosvc.core.keyclass import Algorithm, ceiling
from cryptosvc.core.life import UnixSeconds
from cryptosvc.core.names import ModuleName, SystemName
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.core.statement import Statement
from cryptosvc.flow.ceremony import Found
from cryptosvc.wiring import logkeys
from cryptosvc.wiring.ceremony import papers, seen
from cryptosvc.wiring.ceremony.governed import Carried, Step, carried
from cryptosvc.wiring.ceremony.office import Office
from cryptosvc.wiring.ceremony.shelf import FILES, PAPERS, Shelf

_GOVERNED = {
    ActKind.GENERATE_KEY: "key.generate",
    ActKind.ACTIVATE: "key.activate",
    ActKind.SUSPEND: "key.suspend",
    ActKind.RESUME: "key.resume",
    ActKind.RENEW: "key.renew",
    ActKind.DEACTIVATE: "key.deactivate",
    ActKind.DESTROY: "key.destroy",
    ActKind.COMPROMISE: "key.compromise",
    ActKind.SUPERSEDE: "key.supersede",
    ActKind.BACK_UP: "key.back-up",
    ActKind.SPLIT_KEY: "key.split",
    ActKind.RECOMBINE_KEY: "key.recombine",
}
_OBJECTS = {
    Algorithm.EC_P256: ["private-key", "public-key"],
    Algorithm.HMAC_SHA256: ["secret-key"],
    Algorithm.AES_128: ["secret-key"],
    Algorithm.AES_256: ["secret-key"],
    Algorithm.RSA_3072: ["private-key", "public-key"],
}
"""What a whole key is in a module."""

_OF_THE_LOG = frozenset({logkeys.HEAD_KEY_CLASS, logkeys.AUDIT_KEY_CLASS, logkeys.SERVICE_KEY_CLASS})
"""The log outlives what it is about: its own keys are the last to go, by hand, when nobody reads it any more."""

_CERTIFIES = frozenset({ActKind.SELF_SIGN_CERTIFICATE, ActKind.SIGN_CERTIFICATE, ActKind.ATTACH_CERTIFICATE})


class Rereader:
    """Looks again at what acts left."""

    def __init__(self, office: Office, shelf: Shelf, script: Script) -> None:
        self._office = office
        self._shelf = shelf
        self._script = script

    async def reread(self, act: Act, step: Step) -> Found | None:
        """Look again; None where the step left nothing, or not all of it. Corrupt: what it left is not what it was."""
        with readable():
            return await self._reread(act, step)

    async def _reread(self, act: Act, step: Step) -> Found | None:
        if act.kind in _GOVERNED:
            return await self._key(act, step)
        if act.kind in _CERTIFIES:
            return await self._certificate(act, step)
        match act.kind:
            case ActKind.ATTEST:
                return Found({}, {})
            case ActKind.CHECKPOINT:
                return await self._checkpoint()
            case ActKind.CERTIFICATION_REQUEST:
                return await self._request(act)
            case ActKind.SIGN_ARL | ActKind.SIGN_CRL:
                return await self._list(act)
            case ActKind.EXPORT_PUBLIC:
                return await self._export(act)
            case ActKind.REVOKE:
                return await self._revocation(act)
            case ActKind.DECOMMISSION_SYSTEM:
                return Found(await self.left_of_system(by_module=True), {})
            case _:
                return None

    # Keys

    async def _key(self, act: Act, step: Step) -> Found | None:
        done = await carried(self._office.store.registry, step, _GOVERNED[act.kind])
        key = await self._office.key(act.text("key"))
        if done is None or key is None:
            return None
        facts: dict[str, JsonValue] = {"state": key.state.value, **done.facts()}
        held = await self._office.vault.objects(key.module)
        mine = [one for one in held if (one.label, one.object_id) == (key.label, key.object_id)]
        if act.kind is ActKind.DESTROY:
            facts |= {"objects_left": len(mine), "copies_left": 0}
            return await self._destroyed(key, done, facts)
        if act.kind is ActKind.SPLIT_KEY:
            return self._in_parts(key, done, facts, left=len(mine))
        if act.kind is ActKind.RECOMBINE_KEY:
            usable = key.state is KeyState.ACTIVE
            facts |= seen.of_parts(
                done.proposal.statement.parameters, dict(done.proposal.outcome), usable=usable
            )
        kinds = sorted(one.kind for one in mine)
        if kinds != _OBJECTS[ceiling(key.key_class).template.algorithm]:
            raise Corrupt(
                f"the module holds {', '.join(kinds) or 'nothing'} for the key {key.key_id}, not one whole key",
                rule="ceremony/objects",
                clause=act.clause,
            )
        point = next((one.public_point for one in mine if one.kind == "public-key"), b"")
        if point != key.public_point:
            raise Corrupt(
                f"the module holds another public key for {key.key_id} than its record",
                rule="ceremony/public-key",
                clause=act.clause,
            )
        if act.kind is ActKind.GENERATE_KEY:
            if different := (await self._office.vault.differences(key.module, [key]))[key.key_id]:
                raise Corrupt(
                    f"the key {key.key_id} is not as its class asks: {'; '.join(different)}",
                    rule="ceremony/attributes",
                    clause="G2.22G",
                )
            facts |= {
                "transferable": ceiling(key.key_class).template.transferable,
                "public_key": seen.point_of_spki(point) if point else "",
            }
        return Found(facts, key_fingerprint(key))

    def _in_parts(
        self, key: KeyRecord, done: Carried, facts: dict[str, JsonValue], left: int
    ) -> Found | None:
        """The module has no object of it, and every sealed part that the record names lies among the files."""
        outcome = dict(done.proposal.outcome)
        if left:
            raise Corrupt(
                f"the module still has {left} objects of the key {key.key_id}, which is in parts",
                rule="ceremony/objects",
                clause="G2.44B",
            )
        wanted = {value.rpartition(" ")[2] for name, value in outcome.items() if name.startswith("part_")}
        there = {fingerprint(self._shelf.get(FILES, name)) for name in self._shelf.names(FILES)}
        if not wanted <= there:
            return None
        usable = key.state is KeyState.ACTIVE
        facts |= seen.of_parts(done.proposal.statement.parameters, outcome, usable=usable)
        return Found(facts, key_fingerprint(key))

    async def _destroyed(self, key: KeyRecord, done: Carried, facts: Mapping[str, JsonValue]) -> Found | None:
        """The destruction certificate is verified as whoever is given it will."""
        file = destruction_file(str(key.key_id))
        if not self._shelf.has(FILES, file):
            return None
        envelope = self._shelf.get(FILES, file)
        points = await self._office.service_point(), await self._office.log_point()
        found = destruction.verify(envelope, *map(papers.spki, points))
        if (found.key.key_id, found.proposal.proposal_id) != (key.key_id, done.proposal.proposal_id):
            raise Corrupt(
                f"the file {file} certifies another destruction than this one",
                rule="ceremony/destruction",
                clause="G5.13(c)",
            )
        return Found(facts, {**key_fingerprint(key), file: fingerprint(envelope)})

    # Papers

    async def _certificate(self, act: Act, step: Step) -> Found | None:
        done = await carried(self._office.store.registry, step, "key.certify")
        name = act.text("certificate")
        if done is None or not self._shelf.has(PAPERS, name):
            return None
        paper = self._shelf.get(PAPERS, name)
        key = await self._required(act.text("subject") if act.has("subject") else act.text("key"))
        point = await self._issuing_point(done.proposal.statement)
        if paper != key.certificate:
            raise Corrupt(
                f"the certificate {name} is not the one in the record of {key.key_id}",
                rule="ceremony/certificate",
                clause=act.clause,
            )
        facts = {**seen.of_certificate(paper, point), **done.facts()}
        return Found(facts, {name: fingerprint(paper)})

    async def _issuing_point(self, statement: Statement) -> bytes:
        """Public point of who issued a certificate: of a registered key, or in another system's certificate."""
        foreign = text_of(statement, "issuer_certificate")
        if foreign:
            return seen.point_of(bytes.fromhex(foreign))
        return (await self._required(text_of(statement, "issuer"))).public_point

    async def _request(self, act: Act) -> Found | None:
        name = act.text("request")
        if not self._shelf.has(PAPERS, name):
            return None
        paper, key = self._shelf.get(PAPERS, name), await self._required(act.text("key"))
        facts = seen.of_request(paper)
        if facts["public_key"] != key.public_point.hex():
            raise Corrupt(f"the request {name} is for another key", rule="ceremony/request")
        return Found(facts, {name: fingerprint(paper)})

    async def _list(self, act: Act) -> Found | None:
        name = act.text("list")
        if not self._shelf.has(PAPERS, name):
            return None
        paper, issuer = self._shelf.get(PAPERS, name), await self._required(act.text("issuer"))
        return Found(seen.of_list(paper, issuer.public_point), {name: fingerprint(paper)})

    async def _export(self, act: Act) -> Found | None:
        name = act.text("file")
        if not self._shelf.has(FILES, name):
            return None
        octets = self._shelf.get(FILES, name)
        return Found({}, {name: fingerprint(octets)})

    async def _revocation(self, act: Act) -> Found | None:
        name = act.text("certificate")
        if not self._shelf.has(PAPERS, f"{name}.revocation"):
            return None
        serial = x509.load_der_x509_certificate(await self.certificate(name)).serial_number
        revoked = serial in {one.serial for one, _ in self._revocations()}
        return Found(
            {"revoked": revoked, "serial": f"{serial:x}"}, {name: fingerprint(await self.certificate(name))}
        )

    async def _checkpoint(self) -> Found | None:
        note = await self._office.store.ledger.checkpoint()
        if note is None:
            return None
        spki = papers.spki(await self._office.log_point())
        found = notes.verify(note, self._office.settings.log.origin, spki)
        return Found({"log_size": found.size, "log_root": found.root.hex()}, {})

    # What acts and second looks both need to know

    async def certificate(self, name: str) -> bytes:
        """DER of a certificate by its name in the ceremony: a paper, or the one of the key it was given with."""
        if self._shelf.has(PAPERS, name):
            return self._shelf.get(PAPERS, name)
        for one in self._script.given:
            if one.name == name and one.thing is Thing.CERTIFICATE:
                return (await self._required(one.key)).certificate
        raise Malformed(f"there is no certificate {name}", rule="ceremony/not-there", field="certificate")

    async def public_part(self, name: str) -> bytes:
        """What is exported of a thing: SubjectPublicKeyInfo DER of a key, DER of a paper."""
        key = await self._office.key(name)
        if key is not None:
            return papers.spki(key.public_point)
        return (
            self._shelf.get(PAPERS, name) if self._shelf.has(PAPERS, name) else await self.certificate(name)
        )

    def revoked_by(self, issuer: KeyRecord) -> tuple[papers.Revocation, ...]:
        """Every certificate of an issuer that was revoked, by its latest list on the shelf or by an act since."""
        name = x509.load_der_x509_certificate(issuer.certificate).subject
        found = {one.serial: one for one in self._latest_list(issuer, name)}
        for one, certificate in self._revocations():
            if certificate.issuer == name:
                found.setdefault(one.serial, one)
        return tuple(found[serial] for serial in sorted(found))

    async def left_of_system(self, *, by_module: bool) -> dict[str, JsonValue]:
        """Keys of the system that are not destroyed, and their certificates that are not revoked; the log's apart.

        Args:
            by_module: count the keys whose objects the module still has, instead of the records that say so.

        """
        settings = self._office.settings
        keys = await self._office.store.registry.keys_of(SystemName(settings.deployment.system))
        own = [key for key in keys if key.key_class not in _OF_THE_LOG]
        revoked = {certificate for _, certificate in self._revocations()}
        certificates = [key.certificate for key in own if key.certificate]
        left = [one for one in certificates if x509.load_der_x509_certificate(one) not in revoked]
        alive = [key for key in own if key.state is not KeyState.DESTROYED]
        if by_module:
            held = {
                (module.name, one.label, one.object_id)
                for module in settings.modules
                for one in await self._office.vault.objects(ModuleName(module.name))
            }
            alive = [key for key in own if (str(key.module), key.label, key.object_id) in held]
        return {"keys_left": len(alive), "certificates_left": len(left)}

    def _revocations(self) -> list[tuple[papers.Revocation, x509.Certificate]]:
        found = []
        for name in self._shelf.names(PAPERS):
            if name.endswith(".revocation"):
                entry = orjson.loads(self._shelf.get(PAPERS, name))
                certificate = x509.load_der_x509_certificate(bytes.fromhex(entry["certificate"]))
                revocation = papers.Revocation(
                    certificate.serial_number, UnixSeconds(entry["at"]), entry["reason"]
                )
                found.append((revocation, certificate))
        return found

    def _latest_list(self, issuer: KeyRecord, name: x509.Name) -> tuple[papers.Revocation, ...]:
        latest, number = b"", -1
        for one in self._shelf.names(PAPERS):
            paper = self._shelf.get(PAPERS, one)
            try:
                found = x509.load_der_x509_crl(paper)
                if found.issuer != name:
                    continue
                facts = seen.of_list(paper, issuer.public_point)
            except (ValueError, CryptosvcError):  # another kind of paper, or somebody else's
                continue
            if (this := int(str(facts["crl_number"]))) > number:
                latest, number = paper, this
        return papers.listed(latest) if latest else ()

    async def _required(self, key_id: str) -> KeyRecord:
        found = await self._office.key(key_id)
        if found is None:
            raise Malformed(f"there is no key {key_id}", rule="ceremony/not-there", field="key")
        return found


@contextmanager
def readable() -> Iterator[None]:
    """Raise Corrupt where a paper that a ceremony made cannot be read any more."""
    try:
        yield
    except (
        ValueError,
        KeyError,
        x509.ExtensionNotFound,
        x509.DuplicateExtension,
        UnsupportedAlgorithm,
    ) as error:
        raise Corrupt(
            "a paper of the ceremony cannot be read: it is not as it was made", rule="ceremony/paper"
        ) from error


def destruction_file(key_id: str) -> str:
    """Name of the file with a key's destruction certificate."""
    return f"{key_id}.destruction.json"


def fingerprint(octets: bytes) -> str:
    """SHA-256, lower-case hex."""
    return hashlib.sha256(octets).hexdigest()


def key_fingerprint(key: KeyRecord) -> Mapping[str, str]:
    """Name and SHA-256 of the SubjectPublicKeyInfo; nothing for a key without a public half."""
    return {str(key.key_id): fingerprint(papers.spki(key.public_point))} if key.public_point else {}
