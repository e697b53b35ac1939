"""Ceremonies held on paper: a whole transcript of any plan, signed by people with keys of their own."""

import hashlib
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.config.ceremony import read_ceremony
from cryptosvc.core import checkpoint as notes
from cryptosvc.core import dsse
from cryptosvc.core.ceremony.entries import Begun, Done, Entry, Footer, Header, Mode, Outcome, Present
from cryptosvc.core.ceremony.rows import ActKind, Role
from cryptosvc.core.ceremony.script import Script, act_document, document
from cryptosvc.core.ceremony.transcript import PAYLOAD_TYPE, Transcript, statement
from cryptosvc.core.names import Environment

FOLDER = Path(__file__).resolve().parents[1] / "scripts" / "ceremonies"
READY = sorted(FOLDER.glob("*.toml"))
ORIGIN = "test.example/log"


@dataclass(frozen=True)
class Person:
    name: str
    roles: tuple[Role, ...]
    key: ec.EllipticCurvePrivateKey

    @property
    def spki(self) -> bytes:
        return spki_of(self.key)

    @property
    def present(self) -> Present:
        return Present(person=self.name, roles=self.roles, key_id=dsse.key_id(self.spki))


def spki_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@cache
def key(name: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int(sha(name), 16) % (1 << 250) + 1, ec.SECP256R1())


def person(name: str, *roles: Role) -> Person:
    return Person(name, roles, key(name))


@cache
def script(name: str) -> Script:
    return read_ceremony(FOLDER / f"{name}.toml").script


def people(plan: Script, prefix: str = "") -> list[Person]:
    return [
        person(f"{prefix}{role}-{at}", role) for role, number in plan.people for at in range(1, number + 1)
    ]


def keys_of(there: list[Person]) -> dict[str, bytes]:
    return {one.name: one.spki for one in there}


def note(size: int, signer: str = "log") -> str:
    """A checkpoint of the test log, signed."""
    checkpoint = notes.Checkpoint(ORIGIN, size, hashlib.sha256(bytes([size])).digest())
    private = key(signer)
    signature = private.sign(notes.text(checkpoint), ec.ECDSA(hashes.SHA256()))
    line = notes.NoteSignature(ORIGIN, notes.key_id(spki_of(private)), signature)
    return notes.emit(notes.Note(checkpoint, (line,))).decode()


def entries(
    plan: Script, mode: Mode = Mode.REAL, start: int = 1_800_000_000, prefix: str = ""
) -> list[Entry]:
    """Header, every step, footer: a ceremony in which everything went as planned."""
    there = people(plan, prefix)
    real = mode is Mode.REAL
    module = {
        "name": plan.module,
        "manufacturer": "Maker" if real else "SoftHSM project",
        "model": "Model",
        "serial": sha(mode)[:16],
        "firmware": "2.6",
        "token": f"token-{mode}",
    }
    found: list[Entry] = [
        Header(
            mode=mode,
            environment=plan.environment if real else Environment.TEST,
            system=plan.system,
            script=document(plan),
            script_sha256=sha(plan.title),
            software_version="0.1.0",
            build_sha256=sha("build"),
            policy_digest=sha("policy"),
            modules=(tuple(sorted(module.items())),),
            checkpoint=note(10),
            present=tuple(one.present for one in there),
            at=start,
        )
    ]
    for act in plan.acts:
        by = there[0]
        if act.kind is ActKind.ATTEST:
            by = next(one for one in there if act.text("role") in one.roles)
        at = start + act.number * 60
        facts = {name: list(value) if isinstance(value, tuple) else value for name, value in act.expected}
        facts["leaf"] = start % 1000 + act.number
        if act.kind in {ActKind.SPLIT_KEY, ActKind.RECOMBINE_KEY} and real:
            facts["module_evidence"] = sha("evidence")
        found += [
            Begun(
                number=act.number,
                act=act_document(act),
                sentence=act.sentence,
                confirmation=act.confirmation,
                by=by.name,
                at=at,
            ),
            Done(
                number=act.number,
                facts=facts,
                fingerprints={"result": sha(f"{mode}{act.number}")},
                at=at + 30,
            ),
        ]
    found.append(
        Footer(outcome=Outcome.COMPLETED, reason="", checkpoint=note(40), at=start + 60 * len(plan.acts) + 60)
    )
    return found


def signed(found: list[Entry], there: list[Person]) -> Transcript:
    transcript = Transcript(tuple(found))
    signers = {
        dsse.key_id(one.spki): lambda octets, one=one: one.key.sign(octets, ec.ECDSA(hashes.SHA256()))
        for one in there
    }
    return transcript.signed(dsse.sign(PAYLOAD_TYPE, statement(transcript), signers))


def held(plan: Script, mode: Mode = Mode.REAL, start: int = 1_800_000_000, prefix: str = "") -> Transcript:
    return signed(entries(plan, mode, start, prefix), people(plan, prefix))


def changed(found: list[Entry], position: int, /, **fields: object) -> list[Entry]:
    """The same entries with fields of one replaced; positions count from 0, the header."""
    return [*found[:position], replace(found[position], **fields), *found[position + 1 :]]
