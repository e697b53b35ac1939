"""A deployment on which ceremonies are held: custodians with keys in files, the caller, an issuer of another system.

`python -m tests.ceremony_stand CONFIG PEOPLE` registers them; tests run it in a process of its own, since a PKCS#11
library is global to its process.
"""

import asyncio
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.config.ceremony import read_people
from cryptosvc.config.settings import read_settings
from cryptosvc.core import dsse
from cryptosvc.core.ceremony.entries import Present
from cryptosvc.core.names import KeyId, SystemName
from cryptosvc.wiring import modules, stores, worker
from cryptosvc.wiring.ceremony import rehearsal
from cryptosvc.wiring.ceremony.office import governance
from cryptosvc.wiring.ceremony.people import OwnKey, Room
from tests.ceremonies import FOLDER
from tests.certificates import Authority, issuing_authority, key_record, root_authority
from tests.deployment import Deployment, prepared
from tests.terminal import Terminal

PEOPLE = {
    "ada": "ceremony-administrator",
    "olga": "operator",
    "carl": "key-custodian",
    "cleo": "key-custodian",
    "cyd": "key-custodian",
    "wim": "witness",
    "wanda": "witness",
}
"""Who comes to every ceremony."""

ENTER = ""
PIN = "31415926"
_CONFIRM = r"type exactly:\s+(\S[^\n]*\S)\s*\n\s*\n\s+> "
_ENTER = r"Press Enter[^>]*> "
_WHO = r"One of: ([^,\s]+)[^>]*> "
_WHY = r"goes into the transcript\.\s+> "
_PIN = r"PIN of token \w+: "
_END = r"outcome +(\w+)|rule [a-z/-]+"


class Stand:
    """A deployment, its people, and ceremonies held on it at a pseudo-terminal."""

    def __init__(self, folder: Path, *, system: str = "dcc-oca", cards: Sequence[str] = ()) -> None:
        self.deployment: Deployment = prepared(folder / "deployment", system=system)
        made = self.deployment.init("")
        (self.deployment.folder / "service.pub.pem").write_text(made["service_public_key"])
        self.system = system
        self.folder = folder
        self.office = folder / "office"
        self.people = folder / "people.toml"
        entries = []
        for name, role in PEOPLE.items():
            key = ec.generate_private_key(ec.SECP256R1())
            pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (folder / f"{name}.key").write_bytes(pem)
            where = self._card(name) if name in cards else f"{name}.key"
            entries.append(f'[[present]]\nperson = "{name}"\nroles = ["{role}"]\nkey = "{where}"\n')
        self.people.write_text("\n".join(entries), encoding="utf-8")
        unattended = folder / "unattended.toml"
        text = re.sub(
            r"(module-path=[^\"]*)", rf"\1&pin-source=file:{folder / 'card-pin'}", self.people.read_text()
        )
        unattended.write_text(text, encoding="utf-8")
        done = self.deployment.run(
            str(self.deployment.config), str(unattended), module="tests.ceremony_stand"
        )
        assert done.returncode == 0, done.stderr

    def _card(self, name: str) -> str:
        """Make a token with a signing key; the URI of it, without a PIN."""
        pin = self.folder / "card-pin"
        pin.touch(mode=0o600)
        pin.write_text(PIN + "\n", encoding="ascii")
        environment = self.deployment.process_environment
        library = self.deployment.token.config.library
        make = ["softhsm2-util", "--init-token", "--free", "--label", name, "--so-pin", PIN, "--pin", PIN]
        tool = ["pkcs11-tool", "--module", library, "--token-label", name, "--login", "--pin", PIN]
        generate = ["--keypairgen", "--key-type", "EC:prime256v1", "--label", "sign", "--id", "01"]
        for command in (make, [*tool, *generate]):
            subprocess.run(command, env=environment, check=True, capture_output=True)
        return f"pkcs11:token={name};object=sign?module-path={library}"

    def file(self, name: str, /, **changes: str) -> Path:
        """A ready file, for this deployment, with texts of it replaced."""
        text = (FOLDER / f"{name}.toml").read_text(encoding="utf-8")
        text = text.replace('environment = "live"', 'environment = "test"')
        text = re.sub(r'(?m)^system = "[^"]*"', f'system = "{self.system}"', text, count=1)
        text = re.sub(r'(?m)^module = "[^"]*"', 'module = "softhsm"', text, count=1)
        for old, new in changes.items():
            text = text.replace(old.replace("__", "-"), new)
        path = self.folder / f"{name}.toml"
        path.write_text(text, encoding="utf-8")
        return path

    def terminal(self, verb: str, file: Path) -> Terminal:
        """Start a ceremony at a terminal."""
        arguments = [
            "ceremony",
            verb,
            str(file),
            "--config",
            str(self.deployment.config),
            "--folder",
            str(self.office),
        ]
        if verb != "rehearse":
            arguments += ["--people", str(self.people)]
        return Terminal(arguments, self.deployment.process_environment)

    def held(self, verb: str, file: Path) -> str:
        """Hold a ceremony to its end, typing what it asks for; how it ended."""
        terminal = self.terminal(verb, file)
        try:
            return attend(terminal)
        finally:
            terminal.close()

    def transcript(self, file: Path, kind: str = "transcript") -> Path:
        """Where a ceremony was written down."""
        return self.office / f"{file.stem}.{kind}.jsonl"

    def verified(self, file: Path, kind: str = "transcript") -> dict:
        """The verdict of `ceremony verify`."""
        people = self.office / f"{file.stem}.{kind}.people"
        log = [] if kind == "rehearsal" else ["--log-key", str(self.deployment.folder / "log.pub.pem")]
        path = str(self.transcript(file, kind))
        return self.deployment.json("ceremony", "verify", path, "--people", str(people), *log)


def attend(terminal: Terminal, *, steps: int = 1000) -> str:
    """Type what is asked for, for so many confirmations; how it ended, or `waiting` before the next one."""
    while True:
        found = terminal.until(_CONFIRM, _ENTER, _WHO, _WHY, _PIN, _END)
        asked = found.group(0)
        if "type exactly" in asked:
            if not steps:
                return "waiting"
            steps -= 1
            terminal.type(found.group(1))
        elif "Press Enter" in asked:
            terminal.type(ENTER)
        elif "One of" in asked:
            terminal.type(found.group(1))
        elif "PIN of" in asked:
            terminal.type(PIN)
        elif "goes into" in asked:
            terminal.type("The power failed.")
        else:
            terminal.status()
            return found.group(1) or asked


def issuer() -> Authority:
    """The Issuing OCA of another system; its keys are the same every time."""
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(days=1)
    return issuing_authority(root_authority(start=start), start=start)


async def register(config: Path, people: Path) -> None:
    """Register people, caller and the other system's issuer, as `init` registers what a test begins with."""
    settings, entries = read_settings(config), read_people(people)
    keys = {one.person: OwnKey(one.key, one.person, lambda _: None) for one in entries}
    present = tuple(
        Present(person=one.person, roles=one.roles, key_id=dsse.key_id(keys[one.person].spki))
        for one in entries
    )
    clock = SystemClock()
    hsm = Pkcs11Hsm(modules.module_configs(settings), clock, stores.lock_folder(settings))
    hsm.start()
    try:
        system = SystemName(settings.deployment.system)
        rules = governance(settings).custody
        other = issuer()
        record = key_record("issuing-oca", other.key.public_key(), other.certificate, role=7)
        records = [
            rehearsal.caller(system),
            *rehearsal.register(Room(present, keys), system, rules, rehearsal.now(clock)),
            replace(record, key_id=KeyId("other-issuing-oca"), system=SystemName("other")),
        ]
        async with stores.opened(settings, hsm, clock, worker.scope(settings, "stand")) as store:
            await store.registry.change(records)
    finally:
        hsm.close()


if __name__ == "__main__":
    asyncio.run(register(Path(sys.argv[1]), Path(sys.argv[2])))
