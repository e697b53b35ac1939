"""What the acts of a ceremony do: through the Governor, the corridor and the vault, as everything else that counts.

Each act can be called again after a kill: what this very step did before is found and not done twice.
"""

from collections.abc import Awaitable, Callable, Mapping

import orjson

from cryptosvc.core import checkpoint as notes
from cryptosvc.core.canonical import JsonValue, canonical
from cryptosvc.core.ceremony.acts import Act
from cryptosvc.core.ceremony.fields import REASONS, seconds_of
from cryptosvc.core.ceremony.rows import ActKind, Thing
from cryptosvc.core.ceremony.script import Script
from cryptosvc.core.content.x509.identity import read_certificate
from cryptosvc.core.errors import Conflict, Corrupt, Forbidden, Malformed, Unavailable
from cryptosvc.core.keyclass import AUTHORITY_CLASSES
from cryptosvc.core.life import NANOSECONDS, UnixSeconds
from cryptosvc.core.names import Environment, KeyId, ModuleName
from cryptosvc.core.registry import KeyRecord, KeyState
from cryptosvc.flow.ceremony import Found, Scene
from cryptosvc.wiring.ceremony import said
from cryptosvc.wiring.ceremony.governed import Carried, Governing, Step, carried
from cryptosvc.wiring.ceremony.making import Maker
from cryptosvc.wiring.ceremony.office import Office
from cryptosvc.wiring.ceremony.readiness import Readiness
from cryptosvc.wiring.ceremony.rereading import (
    Rereader,
    destruction_file,
    fingerprint,
    key_fingerprint,
    readable,
)
from cryptosvc.wiring.ceremony.shelf import FILES, PAPERS, Shelf

Deliver = Callable[[str, str], Awaitable[None]]
"""Puts the certificate of a key, by its id, into a file, by its name."""

_GOVERNED = {
    ActKind.ACTIVATE: "key.activate",
    ActKind.SUSPEND: "key.suspend",
    ActKind.RESUME: "key.resume",
    ActKind.DEACTIVATE: "key.deactivate",
    ActKind.COMPROMISE: "key.compromise",
    ActKind.SUPERSEDE: "key.supersede",
}

_LAST = {
    ActKind.GENERATE_KEY: "key.generate",
    ActKind.RENEW: "key.renew",
    ActKind.DESTROY: "key.destroy",
    ActKind.BACK_UP: "key.back-up",
    ActKind.SPLIT_KEY: "key.split",
    ActKind.RECOMBINE_KEY: "key.recombine",
}
"""Acts that are more than one governed act with its parameters → the last, whose record says what was approved."""
_ASKED_AGAIN = 3
_NO_EVIDENCE = b"in environment test no procedure of a module stands behind this\n"


class OfficeActs:
    """The Acts of `flow/ceremony.py`, on a deployment.

    Args:
        office: the deployment.
        governing: those present, as governance sees them.
        shelf: papers and files.
        scene: for checkpoints.
        script: the ceremony.
        deliver: brings the file that an attach-certificate act waits for; None where people bring it.

    """

    def __init__(
        self,
        office: Office,
        governing: Governing,
        shelf: Shelf,
        scene: Scene,
        script: Script,
        deliver: Deliver | None = None,
    ) -> None:
        self._office = office
        self._governing = governing
        self._shelf = shelf
        self._scene = scene
        self._script = script
        self._deliver = deliver
        self._rereader = Rereader(office, shelf, script)
        self._maker = Maker(office, shelf)
        self._readiness = Readiness(office, shelf)
        self._doing: Mapping[ActKind, Callable[[Act, Step], Awaitable[None]]] = {
            ActKind.GENERATE_KEY: self._generate,
            ActKind.SELF_SIGN_CERTIFICATE: self._self_sign,
            ActKind.CERTIFICATION_REQUEST: self._request,
            ActKind.SIGN_CERTIFICATE: self._sign_certificate,
            ActKind.ATTACH_CERTIFICATE: self._attach,
            ActKind.SIGN_ARL: self._list,
            ActKind.SIGN_CRL: self._list,
            ActKind.RENEW: self._renew,
            ActKind.DESTROY: self._destroy,
            ActKind.BACK_UP: self._back_up,
            ActKind.SPLIT_KEY: self._split,
            ActKind.RECOMBINE_KEY: self._recombine,
            ActKind.EXPORT_PUBLIC: self._export,
            ActKind.REVOKE: self._revoke,
            ActKind.DECOMMISSION_SYSTEM: self._nothing,
            ActKind.ATTEST: self._nothing,
            ActKind.CHECKPOINT: self._nothing,
        }

    async def require_ready(self, script: Script) -> None:
        """See `flow/ceremony.py`."""
        await self._readiness.require(script)

    async def exists(self, thing: Thing, name: str) -> bool:
        """See `flow/ceremony.py`."""
        if thing is Thing.FILE:
            return self._shelf.has(FILES, name)
        if thing is not Thing.KEY:
            return self._shelf.has(PAPERS, name)
        if await self._office.key(name) is not None:
            return True
        held = await self._office.vault.objects(ModuleName(self._script.module))
        return any(one.label == name for one in held)

    async def perform(self, act: Act, ceremony: str) -> Found:
        """See `flow/ceremony.py`."""
        step = Step(ceremony, act.number, self._script.title)
        with readable():
            if act.kind in _GOVERNED:
                await self._governing.carry_out(step, _GOVERNED[act.kind], act.text("key"), _parameters(act))
            else:
                await self._doing[act.kind](act, step)
            return await self._found(act, step)

    async def reread(self, act: Act, ceremony: str) -> Found | None:
        """See `flow/ceremony.py`."""
        return await self._rereader.reread(act, Step(ceremony, act.number, self._script.title))

    # Keys

    async def _generate(self, act: Act, step: Step) -> None:
        key = act.text("key")
        asked: dict[str, JsonValue] = {
            "class": act.text("class"),
            "module": str(self._script.module),
            "label": act.text("label"),
            "classification": act.text("classification"),
            "responsible": act.text("responsible"),
        }
        if act.has("role"):
            asked["role"] = act.number_of("role")
        if act.has("eui64"):
            asked["eui64"] = act.text("eui64")
        await self._governing.carry_out(step, "key.order", key, asked)
        await self._governing.carry_out(step, "key.generate", key, {})

    async def _renew(self, act: Act, step: Step) -> None:
        paper = self._shelf.get(PAPERS, act.text("certificate"))
        asked = {"certificate": paper.hex(), "issuer": await self._issuer_of(act.text("key"), paper)}
        await self._governing.carry_out(step, "key.renew", act.text("key"), asked)

    async def _destroy(self, act: Act, step: Step) -> None:
        """Destroy, and lay the destruction certificate beside the other files."""
        key_id = act.text("key")
        seen = ("parts_destroyed", "backups_destroyed")
        accounts: dict[str, JsonValue] = {name: act.text(name) for name in seen if act.has(name)}
        await self._governing.carry_out(step, "key.destroy", key_id, accounts)
        if not self._shelf.has(FILES, destruction_file(key_id)):
            self._shelf.put(FILES, destruction_file(key_id), await self._destruction(KeyId(key_id)))

    async def _destruction(self, key_id: KeyId) -> bytes:
        for _ in range(_ASKED_AGAIN):
            try:
                return await self._office.certifier.certificate(key_id)
            except (
                Conflict
            ):  # the log moved between its checkpoint and the certificate, or an earlier attempt was killed
                continue
        return await self._office.certifier.certificate(key_id)

    async def _back_up(self, act: Act, step: Step) -> None:
        """Record what the module's own procedure did, by the evidence it gave."""
        asked: dict[str, JsonValue] = {name: act.text(name) for name in ("copy", "place")}
        asked |= self._evidence(act)
        await self._governing.carry_out(step, "key.back-up", act.text("key"), asked)

    async def _split(self, act: Act, step: Step) -> None:
        threshold, count = act.number_of("threshold"), act.number_of("parts")
        asked: dict[str, JsonValue] = {"threshold": threshold, "parts": count, **self._evidence(act)}
        asked["holders"] = ",".join(self._governing.part_holders(count))
        await self._governing.carry_out(step, "key.split", act.text("key"), asked)

    async def _recombine(self, act: Act, step: Step) -> None:
        holders = self._governing.part_holders(act.number_of("threshold"))
        asked: dict[str, JsonValue] = {"holders": ",".join(holders), **self._evidence(act)}
        await self._governing.carry_out(step, "key.recombine", act.text("key"), asked)

    def _evidence(self, act: Act) -> dict[str, JsonValue]:
        """SHA-256 of the file with the evidence of the module's own procedure; in a rehearsal nobody has any."""
        if not act.has("evidence"):
            return {}
        live = self._office.settings.deployment.environment is Environment.LIVE
        if act.kind is not ActKind.BACK_UP and not live:
            return {}
        if not live and not self._shelf.has(FILES, act.text("evidence")):
            self._shelf.put(FILES, act.text("evidence"), _NO_EVIDENCE)
        return {"evidence": fingerprint(self._shelf.get(FILES, act.text("evidence")))}

    # Papers

    async def _self_sign(self, act: Act, step: Step) -> None:
        key = await self._key(act.text("key"))
        await self._maker.root_certificate(act, key)
        await self._certify(act, step, str(key.key_id), {"issuer": str(key.key_id)})

    async def _request(self, act: Act, step: Step) -> None:
        del step
        await self._maker.request(act, await self._key(act.text("key")))

    async def _sign_certificate(self, act: Act, step: Step) -> None:
        issuer, subject = await self._key(act.text("issuer")), await self._key(act.text("subject"))
        await self._maker.certificate(act, issuer, subject)
        await self._certify(act, step, str(subject.key_id), {"issuer": str(issuer.key_id)})

    async def _attach(self, act: Act, step: Step) -> None:
        name = act.text("certificate")
        if self._deliver is not None:
            await self._deliver(act.text("key"), act.text("file"))
        received = self._shelf.get(FILES, act.text("file"))
        _require_of(await self._key(act.text("key")), received, act.text("file"))
        issuer: dict[str, JsonValue]
        if act.has("issuer_certificate"):
            issuer = {"issuer_certificate": self._shelf.get(FILES, act.text("issuer_certificate")).hex()}
        else:
            issuer = {"issuer": await self._issuer_of(act.text("key"), received)}
        if not self._shelf.has(PAPERS, name):
            self._shelf.put(PAPERS, name, received)
        await self._certify(act, step, act.text("key"), issuer)

    async def _certify(self, act: Act, step: Step, key_id: str, issuer: Mapping[str, JsonValue]) -> None:
        paper = self._shelf.get(PAPERS, act.text("certificate"))
        asked: dict[str, JsonValue] = {"certificate": paper.hex(), **issuer}
        await self._governing.carry_out(step, "key.certify", key_id, asked)

    async def _list(self, act: Act, step: Step) -> None:
        del step
        issuer = await self._key(act.text("issuer"))
        await self._maker.revocation_list(act, issuer, self._rereader.revoked_by)

    async def _revoke(self, act: Act, step: Step) -> None:
        del step
        name = f"{act.text('certificate')}.revocation"
        certificate = await self._rereader.certificate(act.text("certificate"))
        if not self._shelf.has(PAPERS, name):
            entry: dict[str, JsonValue] = {
                "certificate": certificate.hex(),
                "at": self._now(),
                "reason": REASONS[act.text("reason")],
            }
            self._shelf.put(PAPERS, name, canonical(entry))

    async def _export(self, act: Act, step: Step) -> None:
        del step
        octets = await self._rereader.public_part(act.text("of"))
        if self._shelf.has(
            FILES, act.text("file")
        ):  # after a kill: this step wrote it, or somebody meanwhile
            if self._shelf.get(FILES, act.text("file")) != octets:
                raise Conflict(
                    f"the file {act.text('file')} holds something else", rule="ceremony/exists", field="file"
                )
            return
        self._shelf.put(FILES, act.text("file"), octets)

    async def _nothing(self, act: Act, step: Step) -> None:
        """Nothing is done but what is read afterwards."""

    # What was done, as our own parsers and the registry say

    async def _found(self, act: Act, step: Step) -> Found:
        match act.kind:
            case ActKind.ATTEST:
                return Found({}, {})
            case ActKind.CHECKPOINT:
                checkpoint = notes.parse((await self._scene.checkpoint()).encode()).checkpoint
                return Found({"log_size": checkpoint.size, "log_root": checkpoint.root.hex()}, {})
            case ActKind.CERTIFICATION_REQUEST:
                octets = self._shelf.get(PAPERS, act.text("request"))
                return Found(
                    said.of_request(octets, self._office.x509), {act.text("request"): fingerprint(octets)}
                )
            case ActKind.SIGN_ARL | ActKind.SIGN_CRL:
                octets = self._shelf.get(PAPERS, act.text("list"))
                return Found(said.of_list(octets), {act.text("list"): fingerprint(octets)})
            case ActKind.EXPORT_PUBLIC:
                octets = await self._rereader.public_part(act.text("of"))
                return Found({}, {act.text("file"): fingerprint(octets)})
            case ActKind.REVOKE:
                certificate = await self._rereader.certificate(act.text("certificate"))
                entry = orjson.loads(self._shelf.get(PAPERS, f"{act.text('certificate')}.revocation"))
                revoked = entry["certificate"] == certificate.hex()
                serial = read_certificate(certificate).serial
                return Found(
                    {"revoked": revoked, "serial": f"{serial:x}"},
                    {act.text("certificate"): fingerprint(certificate)},
                )
            case ActKind.DECOMMISSION_SYSTEM:
                left = await self._rereader.left_of_system(by_module=False)
                return Found(left, {})
            case ActKind.SELF_SIGN_CERTIFICATE | ActKind.SIGN_CERTIFICATE | ActKind.ATTACH_CERTIFICATE:
                octets = self._shelf.get(PAPERS, act.text("certificate"))
                return Found(
                    {**said.of_certificate(octets), **(await self._carried(step, "key.certify")).facts()},
                    {act.text("certificate"): fingerprint(octets)},
                )
            case _:
                return await self._key_found(act, step)

    async def _key_found(self, act: Act, step: Step) -> Found:
        key = await self._key(act.text("key"))
        done = await self._carried(step, _LAST.get(act.kind) or _GOVERNED[act.kind])
        facts: dict[str, JsonValue] = {"state": key.state.value, **done.facts()}
        if act.kind is ActKind.GENERATE_KEY:
            facts |= {"transferable": key.transferable, "public_key": key.public_point.hex()}
        facts |= said.of_parts(act, done.proposal, usable=key.state is KeyState.ACTIVE)
        if act.kind is ActKind.DESTROY:
            # the store knows of no wrapped copy: no class in the table may be wrapped by the service
            left = int(dict(done.proposal.outcome)["objects_left"])
            facts |= {"objects_left": left, "copies_left": 0}
            file = destruction_file(str(key.key_id))
            return Found(facts, {**key_fingerprint(key), file: fingerprint(self._shelf.get(FILES, file))})
        return Found(facts, key_fingerprint(key))

    async def _carried(self, step: Step, name: str) -> Carried:
        found = await carried(self._office.store.registry, step, name)
        if found is None:
            raise Corrupt(f"{name} was carried out and left no record", rule="ceremony/no-record")
        return found

    # What acts look at

    async def _key(self, key_id: str) -> KeyRecord:
        found = await self._office.key(key_id)
        if found is None:
            raise Malformed(f"there is no key {key_id}", rule="ceremony/not-there", field="key")
        return found

    async def _issuer_of(self, key_id: str, certificate: bytes) -> str:
        """Id of the registered OCA key in whose name a certificate was issued."""
        issuer = read_certificate(certificate).issuer_der
        view = await self._office.store.registry.keys_of_classes(AUTHORITY_CLASSES)
        for one in view.keys.values():
            if one.certificate and read_certificate(one.certificate).subject_der == issuer:
                return str(one.key_id)
        raise Forbidden(
            f"the issuer of the certificate for {key_id} is no registered OCA key; register its certificate first",
            rule="ceremony/issuer",
            clause="G2.61(a)",
            field="file",
        )

    def _now(self) -> UnixSeconds:
        return UnixSeconds(self._office.clock.now().at // NANOSECONDS)


def _require_of(key: KeyRecord, received: bytes, file: str) -> None:
    """A file that somebody brought by mistake does not end the ceremony."""
    try:
        if read_certificate(received).public_point == key.public_point:
            return
        what = "is of another key"
    except Malformed as error:
        what = f"is no certificate in DER: {error.message}"
    raise Unavailable(
        f"the file {file} {what}; put the certificate of {key.key_id} in its place and resume",
        rule="ceremony/wrong-file",
        field="file",
    )


def _parameters(act: Act) -> dict[str, JsonValue]:
    if act.kind is ActKind.COMPROMISE:
        return {"since": seconds_of(act.text("since"))}
    return {"by": act.text("by")} if act.kind is ActKind.SUPERSEDE else {}
