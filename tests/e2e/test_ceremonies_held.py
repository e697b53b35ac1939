"""Ceremonies on SoftHSM2 at a pseudo-terminal, from the ready files: rehearsed, held, compared, judged, interrupted."""

import hashlib
import json
import shutil
import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from cryptosvc.config.ceremony import read_ceremony
from cryptosvc.core import destruction as destruction_of
from cryptosvc.core.ceremony.guide import NAME, presses
from tests.ceremonies import FOLDER
from tests.ceremony_stand import Stand, attend, issuer
from tests.certificates import organisation_builder
from tests.deployment import REPOSITORY, prepared
from tests.terminal import Terminal

pytestmark = [pytest.mark.slow]


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Stand:
    return Stand(tmp_path_factory.mktemp("stand"))


def paper(stand: Stand, name: str) -> bytes:
    return (stand.office / "papers" / name).read_bytes()


def point_of(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    return key


def spki_of(path: Path) -> bytes:
    key = load_pem_public_key(path.read_bytes())
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def facts_of(path: Path, number: int) -> dict:
    lines = [json.loads(line) for line in path.read_bytes().splitlines()]
    return next(line["facts"] for line in lines if line.get("kind") == "done" and line["number"] == number)


@pytest.mark.xdist_group("ceremonies-of-an-oca")
class TestTheLifeOfAnOca:
    """One deployment, one ceremony after another, each on what the ones before it left."""

    def test_root_oca_is_held_as_it_was_rehearsed_and_nothing_else(self, stand: Stand) -> None:
        file = stand.file("root-oca")
        assert stand.held("rehearse", file) == "completed"
        assert stand.verified(file, "rehearsal")["mode"] == "rehearsal"
        left = sorted(path.name for path in stand.office.iterdir())
        assert left == ["root-oca.rehearsal.jsonl", "root-oca.rehearsal.md", "root-oca.rehearsal.people"]

        terminal = stand.terminal("run", file)
        try:
            assert attend(terminal, steps=2) == "waiting"
            for wrong in ("yes", "generate-key root-oca", "generate-key root-oca-2"):
                terminal.type(wrong)
                terminal.until("That is not it. Nothing was done.")
            terminal.type("generate-key root-oca-1")
            assert attend(terminal) == "completed"
        finally:
            terminal.close()
        verdict = stand.verified(file)
        assert (verdict["outcome"], verdict["steps"], verdict["log_checked"]) == ("completed", 10, True)
        assert sorted(verdict["signed_by"]) == ["ada", "carl", "cleo", "cyd", "olga", "wanda", "wim"]

        certificate = x509.load_der_x509_certificate(paper(stand, "root-oca-1.certificate"))
        certificate.verify_directly_issued_by(certificate)
        assert (stand.office / "files" / "root-oca-1.der").read_bytes() == paper(
            stand, "root-oca-1.certificate"
        )

        pair = [str(stand.transcript(file, "rehearsal")), str(stand.transcript(file))]
        clean = stand.deployment.run("ceremony", "diff", *pair)
        assert clean.returncode == 0, clean.stdout + clean.stderr
        assert "## Not as rehearsed\n\nNothing." in clean.stdout
        assert stand.deployment.run("ceremony", "diff", *reversed(pair)).returncode == 3

    def test_a_changed_file_shows_in_the_comparison(self, stand: Stand, tmp_path: Path) -> None:
        real = stand.transcript(stand.folder / "root-oca.toml")
        stand.folder.joinpath("changed").mkdir()
        changed = stand.folder / "changed" / "root-oca.toml"
        text = (stand.folder / "root-oca.toml").read_text(encoding="utf-8")
        changed.write_text(text.replace("days = 366", "days = 365"), encoding="utf-8")
        office, stand.office = stand.office, tmp_path
        try:
            assert stand.held("rehearse", changed) == "completed"
            rehearsal = stand.transcript(changed, "rehearsal")
        finally:
            stand.office = office
        found = stand.deployment.run("ceremony", "diff", str(rehearsal), str(real))
        assert found.returncode == 4
        assert "step 6 begun act.days" in found.stdout
        assert "header script_sha256" in found.stdout
        assert "not as rehearsed" in found.stderr

    def test_a_tampered_transcript_does_not_verify(self, stand: Stand, tmp_path: Path) -> None:
        real = stand.transcript(stand.folder / "root-oca.toml")
        octets = real.read_bytes()
        people = ["--people", str(real.with_name("root-oca.transcript.people"))]
        for name, changed in {
            "fact": octets.replace(b'"state":"active"', b'"state":"suspended"', 1),
            "line": b"\n".join(octets.split(b"\n")[:4] + octets.split(b"\n")[5:]),
            "cut": b"\n".join(octets.split(b"\n")[:-2]) + b"\n",
        }.items():
            assert changed != octets
            path = tmp_path / f"{name}.jsonl"
            path.write_bytes(changed)
            done = stand.deployment.run("ceremony", "verify", str(path), *people)
            assert done.returncode == 4, (name, done.stdout, done.stderr)

    def test_issuing_oca(self, stand: Stand) -> None:
        file = stand.file("issuing-oca")
        assert stand.held("run", file) == "completed"
        assert stand.verified(file)["outcome"] == "completed"
        root = x509.load_der_x509_certificate(paper(stand, "root-oca-1.certificate"))
        issuing = x509.load_der_x509_certificate(paper(stand, "issuing-oca-1.certificate"))
        issuing.verify_directly_issued_by(root)
        crl = x509.load_der_x509_crl((stand.office / "files" / "organisation-crl-1-1.crl").read_bytes())
        assert crl.is_signature_valid(point_of(issuing))
        assert len(crl) == 0

    def test_a_second_ceremony_from_the_same_file_and_a_taken_name_are_stopped(self, stand: Stand) -> None:
        file = stand.file("issuing-oca")
        assert stand.held("run", file) == "rule ceremony/held"
        other = file.with_name("issuing-oca-again.toml")
        other.write_bytes(file.read_bytes())
        assert stand.held("run", other) == "rule ceremony/exists"
        assert not stand.transcript(other).exists()

    def test_renewal_and_destruction(self, stand: Stand) -> None:
        renewal, destruction = stand.file("issuing-oca-renewal"), stand.file("destruction")
        assert stand.held("run", renewal) == "completed"
        assert stand.held("run", destruction) == "completed"
        assert stand.verified(renewal)["outcome"] == "completed"
        assert stand.verified(destruction)["outcome"] == "completed"
        facts = facts_of(stand.transcript(destruction), 3)
        assert (facts["state"], facts["objects_left"], facts["copies_left"]) == ("destroyed", 0, 0)
        assert facts["approved_by"] == ["carl", "cleo", "cyd"]
        certificate = destruction_of.verify(
            (stand.office / "files" / "issuing-oca-1.destruction.json").read_bytes(),
            spki_of(stand.deployment.folder / "service.pub.pem"),
            spki_of(stand.deployment.folder / "log.pub.pem"),
        )
        assert certificate.key.key_id == "issuing-oca-1"

    def test_suspension_and_compromise(self, stand: Stand) -> None:
        changes = {"issuing__oca__1": "issuing-oca-2"}
        suspension = stand.file("emergency-suspension", **changes)
        compromise = stand.file("compromise", **changes)
        with stand.deployment.serving():  # the service goes on meanwhile
            assert stand.held("run", suspension) == "completed"
            assert stand.held("run", compromise) == "completed"
        assert stand.verified(suspension)["outcome"] == "completed"
        assert stand.verified(compromise)["outcome"] == "completed"
        arl = x509.load_der_x509_crl(paper(stand, "organisation-arl-after-compromise"))
        issuing = x509.load_der_x509_certificate(paper(stand, "issuing-oca-2.certificate"))
        (entry,) = arl
        assert entry.serial_number == issuing.serial_number
        assert (
            entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
            is x509.ReasonFlags.ca_compromise
        )

    def test_the_log_of_all_of_it_replays(self, stand: Stand) -> None:
        log = stand.deployment.verified_log()
        assert len(log.entries) > 50


@pytest.mark.xdist_group("ceremonies-interrupted")
def test_interrupted_and_killed_in_the_middle_of_acts_a_ceremony_is_resumed_to_its_end(
    tmp_path: Path,
) -> None:
    stand = Stand(tmp_path)
    file = stand.file("root-oca")
    # Ctrl-C where somebody is waited for: before anything is done
    terminal = stand.terminal("run", file)
    assert attend(terminal, steps=1) == "waiting"
    terminal.interrupt()
    assert terminal.status() == 5
    assert "stopped before the next step" in terminal.written
    terminal.close()
    # killed while acts are being done: so long after the line that says that they were begun is on disk
    opened = []
    for steps, milliseconds in ((1, 0), (0, 40), (1, 100)):
        terminal = stand.terminal("resume", file)
        assert attend(terminal, steps=steps) == "waiting"
        before = stand.transcript(file).stat().st_size
        terminal.type(confirmation(terminal.written))
        end = time.monotonic() + 30
        while stand.transcript(file).stat().st_size == before:
            assert time.monotonic() < end
            time.sleep(0.001)
        time.sleep(milliseconds / 1000)
        terminal.kill()
        terminal.close()
        last = json.loads(stand.transcript(file).read_bytes().splitlines()[-1])
        opened.append(last["kind"] == "begun")
    assert any(opened)
    assert stand.held("resume", file) == "completed"
    verdict = stand.verified(file)
    assert (verdict["outcome"], verdict["steps"], verdict["interruptions"]) == ("completed", 10, 4)
    assert "Resumed after an interruption" in stand.transcript(file).with_suffix(".md").read_text(
        encoding="utf-8"
    )
    # every governed act was carried out once, whatever was begun again
    done = [json.loads(line) for line in stand.transcript(file).read_bytes().splitlines()]
    numbers = [line["number"] for line in done if line.get("kind") == "done"]
    assert numbers == list(range(1, 11))
    stand.deployment.verified_log()
    assert stand.held("resume", file) == "rule ceremony/ended"


def list_issuer(stand: Stand, certificate: bytes) -> None:
    """Have the deployment's policies list another system's OCA Certificate."""
    policies = stand.folder / "policies"
    shutil.copytree(REPOSITORY / "policies", policies)
    listed = f'foreign_issuers = ["{hashlib.sha256(certificate).hexdigest()}"]'
    text = (policies / "governance.toml").read_text(encoding="utf-8")
    assert '# foreign_issuers = ["..."]' in text
    (policies / "governance.toml").write_text(text.replace('# foreign_issuers = ["..."]', listed), "utf-8")
    config = stand.deployment.config
    config.write_text(config.read_text().replace(str(REPOSITORY / "policies"), str(policies)))


@pytest.mark.xdist_group("ceremonies-command-signing")
def test_a_command_signing_key_by_custodians_with_cards_gets_its_certificate_from_another_system(
    tmp_path: Path,
) -> None:
    stand = Stand(tmp_path, system="dcc-cos", cards=("cleo",))
    other = issuer()
    list_issuer(stand, other.certificate)
    file = stand.file("command-signing")
    assert stand.held("rehearse", file) == "completed"
    # nobody has brought the certificate yet: the ceremony stays open
    assert stand.held("run", file) == "rule ceremony/no-file"
    request = x509.load_der_x509_csr((stand.office / "files" / "cos-commands-1.csr").read_bytes())
    key = request.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    start = x509.load_der_x509_certificate(other.certificate).not_valid_before_utc
    builder = organisation_builder(
        other.certificate, key, role=5, entity="90-B3-D5-1F-30-00-00-02", start=start
    )
    certificate = builder.sign(other.key, hashes.SHA256()).public_bytes(Encoding.DER)
    file_of_it = stand.office / "files" / "cos-commands-1.der"
    file_of_it.write_bytes(other.certificate)  # by mistake that of the issuer itself
    assert stand.held("resume", file) == "rule ceremony/wrong-file"
    file_of_it.write_bytes(certificate)
    # the issuer's own certificate has to come too, and to be one that the policies list
    assert stand.held("resume", file) == "rule ceremony/no-file"
    (stand.office / "files" / "smki-issuing-oca.der").write_bytes(other.certificate)
    assert stand.held("resume", file) == "completed"
    assert stand.verified(file)["interruptions"] == 3
    facts = facts_of(stand.transcript(file), 6)
    assert (facts["remote_party_role"], facts["validity_days"]) == (5, 3653)


@pytest.mark.xdist_group("ceremonies-command-signing")
@pytest.mark.parametrize("name", ["destruction", "decommissioning"])
def test_the_key_presses_of_the_guide_are_all_it_takes(tmp_path: Path, name: str) -> None:
    deployment = prepared(tmp_path / "deployment", system="dcc-oca")
    file = FOLDER / f"{name}.toml"
    plan = read_ceremony(file).script
    typed = ["", *(line for act in plan.acts for line in presses(act, plan))]
    arguments = ["ceremony", "rehearse", str(file), "--config", str(deployment.config)]
    terminal = Terminal([*arguments, "--folder", str(tmp_path / "kept")], deployment.process_environment)
    try:
        for line in typed:
            terminal.until(r"\n    > ")
            terminal.type("rehearsal-witness-1" if line == NAME else line)
        assert terminal.until(r"outcome +(\w+)").group(1) == "completed"
        assert terminal.status() == 0
    finally:
        terminal.close()
    # where nobody could see it, no ceremony is held
    unseen = deployment.run(*arguments)
    assert (unseen.returncode, "rule config/no-terminal" in unseen.stderr) == (2, True)


def confirmation(written: str) -> str:
    """The words that the last screen asks for."""
    return written.rpartition("type exactly:")[2].strip().splitlines()[0].strip()


@pytest.mark.xdist_group("ceremonies-command-signing")
def test_a_key_that_derives_is_certified_by_the_request_it_signed_while_it_was_made(tmp_path: Path) -> None:
    stand = Stand(tmp_path, system="dcc-acb")
    file = stand.file("command-signing")
    text = file.read_text(encoding="utf-8").replace('class = "command-signing"', 'class = "key-agreement"')
    begins, ends = (
        text.index('[[acts]]\nact = "certification-request"'),
        text.index('[[acts]]\nact = "attach-certificate"'),
    )
    text = (text[:begins] + text[ends:]).replace('["digitalSignature"]', '["keyAgreement"]')
    file.write_text(text.replace('issuer_certificate = "smki-issuing-oca.der"\n', ""), encoding="utf-8")
    assert stand.held("rehearse", file) == "completed"
    done = [json.loads(line) for line in stand.transcript(file, "rehearsal").read_bytes().splitlines()]
    assert any("keyAgreement" in json.dumps(line) for line in done if line.get("kind") == "done")
