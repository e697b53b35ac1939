"""Recovery and contingency keys in parts, at a pseudo-terminal on SoftHSM2: what is held, what is refused, what is left."""

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from shamir_mnemonic import combine_mnemonics

from cryptosvc.core import parts
from cryptosvc.core.parts import Part
from tests import ceremony_stand
from tests.ceremonies import FOLDER
from tests.ceremony_stand import Stand, attend, issuer
from tests.certificates import organisation_builder
from tests.deployment import prepared
from tests.terminal import Terminal

pytestmark = [pytest.mark.slow]
HOLDERS = [f"petra-{number}" for number in range(1, 6)]
KEY = "recovery-1"


class PartStand(Stand):
    """A stand with five people who hold parts."""

    known: dict[int, str]
    """Size → the set of that size that a split came to its end with."""

    def terminal(self, verb: str, file: Path) -> Terminal:
        arguments = ["ceremony", verb, str(file), "--config", str(self.deployment.config)]
        arguments += ["--folder", str(self.office)]
        if verb != "rehearse":
            so_pin = self.deployment.token.folder / "so-pin"
            arguments += ["--people", str(self.people), "--so-pin-file", str(so_pin)]
        return Terminal(arguments, self.deployment.process_environment)

    def files(self, key: str = KEY) -> dict[Path, Part]:
        """Parts that lie among the files, by the order of their numbers."""
        found = {
            path: parts.parse(path.read_bytes())
            for path in (self.office / "files").glob(f"{key}.*.part.json")
        }
        return dict(sorted(found.items(), key=lambda one: (one[1].mark, one[1].number)))

    def set_of(self, size: int, lost: int = 0) -> list[Part]:
        """The set of so many parts that the key is in, but for those lost; by their numbers.

        What a split that was killed had written lies there too, and is of no use to anybody.
        """
        sets: dict[str, list[Part]] = {}
        for part in self.files().values():
            if part.parts == size:
                sets.setdefault(part.set_id, []).append(part)
        if size not in self.known:
            (self.known[size],) = [name for name, one in sets.items() if len(one) == size]
        found = sets[self.known[size]]
        assert len(found) == size - lost
        return sorted(found, key=lambda one: one.number)

    def place_of(self, part: Part) -> Path:
        return self.office / "files" / f"{part.key_id}.{part.set_id}.{part.number}.part.json"

    def private(self, person: str) -> ec.EllipticCurvePrivateKey:
        found = load_pem_private_key((self.folder / f"{person}.key").read_bytes(), None)
        assert isinstance(found, ec.EllipticCurvePrivateKey)
        return found

    def opened(self, part: Part) -> str:
        """The share in a part, as its holder can read it with the page of the format and nothing of ours."""
        mine = self.private(part.holder)
        peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), part.ephemeral)
        point = mine.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        key = parts.sealing_key(mine.exchange(ec.ECDH(), peer), part.ephemeral, point)
        return parts.open_part(part, key).decode()

    def differences(self) -> list[str]:
        """Kinds of what `reconcile` finds."""
        done = self.deployment.run("reconcile", "--config", str(self.deployment.config), "--json")
        assert done.stdout, done.stderr
        found = json.loads(done.stdout)
        return [one["kind"] for one in (found if isinstance(found, list) else found["differences"])]


def stand_in(folder: Path) -> PartStand:
    people = {
        "ada": "ceremony-administrator",
        "olga": "operator",
        "carl": "key-custodian",
        "cleo": "key-custodian",
        **dict.fromkeys(HOLDERS, "part-holder"),
        "wim": "witness",
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceremony_stand, "PEOPLE", people)
        made = PartStand(folder, system="dcc-recovery")
    made.known = {}
    return made


def certified(stand: Stand) -> None:
    """The SMKI issues the certificate that was asked for."""
    request = x509.load_der_x509_csr((stand.office / "files" / f"{KEY}.csr").read_bytes())
    key, other = request.public_key(), issuer()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    start = x509.load_der_x509_certificate(other.certificate).not_valid_before_utc
    builder = organisation_builder(
        other.certificate, key, role=1, entity="90-B3-D5-1F-30-00-00-05", start=start
    )
    made = builder.sign(other.key, hashes.SHA256()).public_bytes(Encoding.DER)
    (stand.office / "files" / f"{KEY}.der").write_bytes(made)


def done(stand: Stand, file: Path, act: str) -> list[dict]:
    lines = [json.loads(line) for line in stand.transcript(file).read_bytes().splitlines()]
    numbers = [line["number"] for line in lines if line.get("kind") == "begun" and line["act"]["act"] == act]
    return [line["facts"] for line in lines if line.get("kind") == "done" and line["number"] in numbers]


def everything_written(stand: Stand) -> Iterator[tuple[Path, bytes]]:
    for path in sorted(stand.folder.rglob("*")):
        if path.is_file() and path.suffix != ".key":
            yield path, path.read_bytes()


def kill_in(stand: Stand, verb: str, file: Path, steps: int, milliseconds: int) -> None:
    """Kill it so long after the line that says that the act was begun is on disk."""
    terminal = stand.terminal(verb, file)
    try:
        assert attend(terminal, steps=steps) == "waiting"
        before = stand.transcript(file).stat().st_size
        words = terminal.written.rpartition("type exactly:")[2].strip().splitlines()[0].strip()
        terminal.type(words)
        end = time.monotonic() + 60
        while stand.transcript(file).stat().st_size == before:
            assert time.monotonic() < end, terminal.written[-3000:]
            time.sleep(0.001)
        time.sleep(milliseconds / 1000)
        terminal.kill()
    finally:
        terminal.close()


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> PartStand:
    return stand_in(tmp_path_factory.mktemp("parts"))


@pytest.mark.xdist_group("ceremonies-of-parts")
class TestTheLifeOfARecoveryKey:
    """One deployment, one ceremony after another, each on what the ones before it left."""

    def test_it_is_rehearsed_and_nothing_is_kept(self, stand: PartStand) -> None:
        file = stand.file("recovery-key-split")
        assert stand.held("rehearse", file) == "completed"
        kept = sorted(path.name for path in stand.office.rglob("*"))
        assert not any(".part" in name for name in kept)
        assert stand.verified(file, "rehearsal")["outcome"] == "completed"

    def test_it_is_split_as_rehearsed_and_is_nowhere_whole(self, stand: PartStand) -> None:
        file = stand.file("recovery-key-split")
        assert stand.held("run", file) == "rule ceremony/no-file"
        certified(stand)
        # the certificate is attached, the key activated; then it is killed in the split, twice
        kill_in(stand, "resume", file, 2, 10)
        kill_in(stand, "resume", file, 0, 1500)
        assert stand.held("resume", file) == "completed"
        assert stand.verified(file)["outcome"] == "completed"
        (facts,) = done(stand, file, "split-key")
        assert (facts["threshold"], facts["parts"], facts["usable"]) == (3, 5, False)
        assert facts["state"] == "split"
        assert stand.differences() == []
        pair = [str(stand.transcript(file, "rehearsal")), str(stand.transcript(file))]
        compared = stand.deployment.run("ceremony", "diff", *pair)
        # it was interrupted, and did what was rehearsed and nothing else
        page = compared.stdout
        assert compared.returncode == 0, page
        assert "**As rehearsed, interrupted 3 times.**" in page
        assert "## Not as rehearsed\n\nNothing." in page

    def test_each_holder_has_one_part_and_any_three_make_one_secret(self, stand: PartStand) -> None:
        mine = stand.set_of(5)
        assert [(one.number, one.holder) for one in mine] == list(enumerate(HOLDERS, 1))
        shares = [stand.opened(one) for one in mine]
        secret = combine_mnemonics(shares[:3])
        assert combine_mnemonics(shares[2:]) == secret
        key = ec.derive_private_key(int.from_bytes(secret), ec.SECP256R1()).public_key()
        assert key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint) == mine[0].public_point

    def test_it_is_not_put_together_without_a_part_or_with_one_of_another_holder(
        self, stand: PartStand, tmp_path: Path
    ) -> None:
        file = stand.file("recovery-key-recombination")
        first, *_, last = stand.set_of(5)
        path = stand.place_of(first)
        shutil.move(path, tmp_path / path.name)
        assert stand.held("run", file) == "rule split/no-part"
        shutil.copy(stand.place_of(last), path)
        assert stand.held("resume", file) == "rule split/no-part"
        path.unlink()
        # as it was made, but for one octet
        octets = bytearray((tmp_path / path.name).read_bytes())
        at = octets.index(b'"sealed":"') + len(b'"sealed":"')
        octets[at] = ord("0") if octets[at] != ord("0") else ord("1")
        path.write_bytes(octets)
        assert stand.held("resume", file) == "rule split/sealed"
        assert stand.verified(file)["outcome"] == "stopped"
        assert stand.differences() == []
        path.unlink()

    def test_those_who_are_left_put_it_together_and_split_it_again(self, stand: PartStand) -> None:
        """Two of five holders are gone, with their keys and parts; the others restore the key for three of them."""
        lost = stand.set_of(5, lost=1)[:1]
        for part in lost:
            stand.place_of(part).unlink()
        for person in HOLDERS[:2]:
            (stand.folder / f"{person}.key").rename(stand.folder / f"{person}.gone.key")
        changes = {"number = 5": "number = 3", "threshold = 3\nparts = 5": "threshold = 2\nparts = 3"}
        made = stand.file("recovery-key-recombination", **changes)
        file = made.rename(made.with_name("recovery-for-three.toml"))
        entries = stand.people.read_text(encoding="utf-8").split("\n\n")
        gone = HOLDERS[:2]
        stand.people.write_text(
            "\n\n".join(one for one in entries if not any(f'"{name}"' in one for name in gone)),
            encoding="utf-8",
        )
        kill_in(stand, "run", file, 3, 900)
        terminal = stand.terminal("resume", file)
        try:
            while not done(stand, file, "recombine-key"):
                assert attend(terminal, steps=1) == "waiting"
            assert stand.differences() == []
            terminal.interrupt()
            terminal.status()
        finally:
            terminal.close()
        (facts,) = done(stand, file, "recombine-key")
        assert (facts["state"], facts["usable"], facts["threshold"]) == ("active", True, 3)
        assert stand.held("resume", file) == "completed"
        assert stand.verified(file)["outcome"] == "completed"
        assert [one.holder for one in stand.set_of(3)] == HOLDERS[2:5]
        assert stand.differences() == []

    def test_no_secret_is_in_anything_that_was_written(self, stand: PartStand) -> None:
        held = [part for part in stand.files().values() if (stand.folder / f"{part.holder}.key").exists()]
        shares = [stand.opened(part).split() for part in held]
        assert len(shares) >= 6
        made = combine_mnemonics([stand.opened(one) for one in stand.set_of(3)[:2]])
        # four words of a share in a row (past those that all have), or the scalar: neither is there by accident
        wanted = {" ".join(one[at : at + 4]).encode() for one in shares for at in range(4, len(one) - 4)}
        wanted |= {made, made.hex().encode(), made.hex().upper().encode()}
        looked = 0
        for path, octets in everything_written(stand):
            looked += 1
            assert not any(one in octets for one in wanted), path
        assert looked > 20

    def test_the_log_of_all_of_it_replays(self, stand: PartStand) -> None:
        log = stand.deployment.verified_log()
        assert len(log.entries) > 30


@pytest.mark.xdist_group("ceremonies-of-parts-rehearsed")
@pytest.mark.parametrize("name", ["contingency-key-split", "recovery-key-recombination"])
def test_the_other_files_are_rehearsed_to_their_end(tmp_path: Path, name: str) -> None:
    deployment = prepared(tmp_path / "deployment", system="dcc-recovery")
    arguments = ["ceremony", "rehearse", str(FOLDER / f"{name}.toml"), "--config", str(deployment.config)]
    terminal = Terminal([*arguments, "--folder", str(tmp_path / "kept")], deployment.process_environment)
    try:
        assert attend(terminal) == "completed"
    finally:
        terminal.close()
    assert not list((tmp_path / "kept").rglob("*.part.json"))
