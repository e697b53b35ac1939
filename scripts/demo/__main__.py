"""The demonstration behind scripts/quickstart: see docs/request-path.md for what happens inside each call."""

import argparse
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import messages
from certificates import issuing_certificate, organisation_certificate, root_certificate
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.hazmat.primitives.serialization import Encoding
from deployment import DEVICE, REPOSITORY, SUPPLIER, Deployment, Failed

from cryptosvc.client.calls import Client, request
from cryptosvc.client.channels import Target
from cryptosvc.client.errors import CallError
from cryptosvc.client.keys import RemotePrivateKey

EUI64 = SUPPLIER.hex("-").upper()
SUPPLIER_ROLE, XML_SIGN_ROLE = 0x02, 0x87


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/quickstart")
    parser.add_argument("--keep", action="store_true", help="leave the service running")
    options = parser.parse_args()
    started = time.monotonic()
    deployment = Deployment(Path(os.environ.get("QUICKSTART_FOLDER", REPOSITORY / ".quickstart")).resolve())
    kept = False
    try:
        show(deployment)
        kept = options.keep
    except (Failed, CallError) as error:
        print(f"\nquickstart failed: {error}", file=sys.stderr)
        return 1
    finally:
        if not kept:
            deployment.stop()
    closing(deployment, kept=kept, seconds=time.monotonic() - started)
    return 0


def show(deployment: Deployment) -> None:
    heading("A test module, a test PKI for TLS, a configuration")
    deployment.prepare()
    said(f"everything is in {deployment.folder}")

    heading("Keys are generated in the module; the log begins")
    deployment.provisioning.write_text(provisioning(deployment))
    done = deployment.command("init", str(deployment.provisioning))
    (deployment.folder / "log.pub.pem").write_text(str(done["log_public_key"]))
    said(f"keys {', '.join(str(key) for key in done['keys_generated'])}")  # type: ignore[attr-defined]
    said(f"log {done['origin']}, its public key in log.pub.pem")

    heading("The service starts, with mutual TLS")
    deployment.start()
    said(f"listening on {deployment.target}")
    with client(deployment, "oca-operator") as operator, client(deployment, "supplier") as supplier:
        hierarchy(deployment, operator)
        signatures(deployment, supplier)
        refusals(deployment, operator, supplier)
    audit(deployment)


def provisioning(deployment: Deployment) -> str:
    """The provisioning file; certificates that exist by now are named in it."""

    def certificate(name: str) -> str:
        path = deployment.folder / "pki" / f"{name}.pem"
        return f'certificate = "pki/{name}.pem"\n' if path.exists() else ""

    organisation = f'eui64 = "{EUI64}"'
    return f"""\
# Made by scripts/quickstart. `cryptosvc init` takes it in environment test only.
[[keys]]
id = "root-oca"
class = "root-oca"
role = 0
{certificate("root-oca")}
[[keys]]
id = "issuing-oca"
class = "issuing-oca"
role = 7
{certificate("issuing-oca")}
[[keys]]
id = "supplier-signing"
class = "command-signing"
role = {SUPPLIER_ROLE}
{organisation}
{certificate("supplier-signing")}
[[keys]]
id = "supplier-xml"
class = "xml-signing"
role = {XML_SIGN_ROLE}
{organisation}
{certificate("supplier-xml")}
[[callers]]
id = "oca-operator"
certificate = "tls/oca-operator.pem"
user_roles = ["DCC"]
grants = [{{ key_class = "root-oca" }}, {{ key_class = "issuing-oca" }}]

[[callers]]
id = "supplier"
certificate = "tls/supplier.pem"
user_roles = ["IS"]
user_ids = ["{EUI64}"]
grants = [{{ key_class = "command-signing" }}, {{ key_class = "xml-signing" }}]

[[callers]]
id = "auditor"
certificate = "tls/auditor.pem"
auditor = true
"""


def hierarchy(deployment: Deployment, operator: Client) -> None:
    heading("Root OCA → Issuing OCA → Organisation: each certificate is signed by the service")
    root_key = remote(operator, "root-oca")
    root = root_certificate(root_key.public_key()).sign(root_key, hashes.SHA256())
    attach(deployment, "root-oca", root)
    said(
        "root-oca signed its own certificate (OU=00), and only ever signs OCA Certificates, CSRs and ARLs: G2.60"
    )

    issuing_key = remote(operator, "issuing-oca")
    issuing = issuing_certificate(root, issuing_key.public_key()).sign(root_key, hashes.SHA256())
    attach(deployment, "issuing-oca", issuing)
    said("root-oca signed the certificate of issuing-oca (OU=07): G2.60(a)")

    with client(deployment, "supplier") as supplier:
        for name, role in (("supplier-signing", SUPPLIER_ROLE), ("supplier-xml", XML_SIGN_ROLE)):
            public = remote(supplier, name).public_key()
            certificate = organisation_certificate(issuing, public, role, SUPPLIER).sign(
                issuing_key, hashes.SHA256()
            )
            attach(deployment, name, certificate)
            said(f"issuing-oca signed the Organisation Certificate of {name} (OU={role:02X}): G2.61(a)")


def signatures(deployment: Deployment, supplier: Client) -> None:
    heading("The supplier signs")
    message = messages.pre_command(messages.DISABLE_SUPPLY, SUPPLIER, DEVICE, counter=int(time.time() * 1000))
    signed = supplier.sign(
        request(
            "supplier-signing",
            gbcs_pre_command=message,
            service_reference_variant="7.2",
            user_id=EUI64,
            user_role="IS",
        )
    )
    (deployment.folder / "signed" / "pre-command.bin").write_bytes(message)
    keep(deployment, "signed-pre-command.bin", signed.artefact)
    said(
        f"a GBCS Pre-Command (ECS43, disable supply) with supplier-signing: {signed.clause}, "
        f"log entry {signed.receipt.leaf_index}"
    )

    document = (REPOSITORY / "examples" / "duis" / "read-inventory.xml").read_bytes()
    answer = supplier.sign(
        request(
            "supplier-xml",
            duis_document=document,
            service_reference_variant="8.2",
            user_id=EUI64,
            user_role="IS",
        )
    )
    keep(deployment, "signed-read-inventory.xml", answer.artefact)
    said(
        f"a DUIS document (read inventory) with supplier-xml: {answer.clause}, log entry {answer.receipt.leaf_index}"
    )


def refusals(deployment: Deployment, operator: Client, supplier: Client) -> None:
    heading("Three things it refuses, and why")
    pki = deployment.folder / "pki"
    issuing = x509.load_pem_x509_certificate((pki / "issuing-oca.pem").read_bytes())
    public = remote(supplier, "supplier-signing").public_key()
    wrong = organisation_certificate(issuing, public, SUPPLIER_ROLE, SUPPLIER)
    throwaway = wrong.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    refused(
        "the Root OCA key asked for an Organisation certificate",
        lambda: operator.sign(request("root-oca", tbs_certificate=throwaway.tbs_certificate_bytes)),
    )
    foreign = messages.pre_command(messages.LIMIT_LOAD, SUPPLIER, DEVICE, counter=int(time.time() * 1000))
    refused(
        "the supplier's key asked for a load controller's command (ECS47e)",
        lambda: supplier.sign(
            request(
                "supplier-signing",
                gbcs_pre_command=foreign,
                service_reference_variant="7.16",
                user_id=EUI64,
                user_role="IS",
            )
        ),
    )
    digest = hashes.Hash(hashes.SHA256())
    digest.update(foreign)
    bare = digest.finalize()
    refused(
        "a bare digest: 32 octets said to be a Pre-Command",
        lambda: supplier.sign(request("supplier-signing", gbcs_pre_command=bare)),
    )
    try:
        remote(supplier, "supplier-signing").sign(bare, ec.ECDSA(Prehashed(hashes.SHA256())))
    except CallError as error:
        raise Failed(f"the client package sent a digest: {error}") from None
    except Exception as error:  # noqa: BLE001 - whichever it raises, it must not have signed
        said(f"and the client package does not even send one: {type(error).__name__}: {error}")
    else:
        raise Failed("a digest was signed")


def audit(deployment: Deployment) -> None:
    heading("The log proves it, off-line")
    export = deployment.folder / "log.export"
    deployment.command("audit", "export", str(export))
    verdict = deployment.command(
        "audit", "verify", str(export), "--key", str(deployment.folder / "log.pub.pem")
    )
    said(
        f"{verdict['entries']} entries verified from genesis to checkpoint, {verdict['records']} registry records with them"
    )
    tampered = deployment.folder / "log.tampered"
    octets = export.read_bytes()
    tampered.write_bytes(octets.replace(b'"decision":"refuse"', b'"decision":"permit"', 1))
    try:
        deployment.command("audit", "verify", str(tampered), "--key", str(deployment.folder / "log.pub.pem"))
    except Failed:
        said("one refusal turned into a permit in a copy: found")
    else:
        raise Failed("a changed entry was not found")
    finally:
        tampered.unlink()


def closing(deployment: Deployment, *, kept: bool, seconds: float) -> None:
    folder = Path(os.path.relpath(deployment.folder))
    heading(f"Done in {seconds:.0f} s")
    said(f"{folder}/cryptosvc.toml       the configuration; config.example.toml explains it")
    said(f"{folder}/provisioning.toml    keys, callers and grants")
    said(f"{folder}/pki, {folder}/signed   what was signed")
    said(f"{folder}/log.export           the log; {folder}/log.pub.pem verifies it")
    said(f"{folder}/service.log          what the processes said")
    environment = deployment.folder / "environment"
    environment.write_text(
        f"export SOFTHSM2_CONF={deployment.token}/softhsm2.conf CRYPTOSVC_CONFIG={deployment.config}\n"
        f"export CRYPTOSVC_TARGET={deployment.target} CRYPTOSVC_CA={deployment.folder}/tls/ca.pem\n"
        f"export CRYPTOSVC_CERT={deployment.folder}/tls/supplier.pem CRYPTOSVC_KEY={deployment.folder}/tls/supplier.key\n"
        f"export PATH={REPOSITORY}/.venv/bin:$PATH\n"
    )
    print("\nTry next:")
    print(f"  . {folder}/environment                  # as the supplier")
    print("  cryptosvc doctor")
    if kept:
        print("  cryptosvc key list")
        print(f"  cryptosvc sign supplier-signing gbcs-pre-command {folder}/signed/pre-command.bin \\")
        print(f"      --variant 7.2 --user-id {EUI64} --user-role IS")
        print("  cryptosvc audit checkpoint")
        print(f"  kill $(cat {folder}/service.pid)                    # stop the service")
    else:
        print("  scripts/quickstart --keep                   # the same, and the service stays")
        print("  cryptosvc serve                             # or start it again as it is")
    print(f"  cryptosvc audit verify {folder}/log.export --key {folder}/log.pub.pem")
    print("  cryptosvc policy matrix")


def client(deployment: Deployment, name: str) -> Client:
    tls = deployment.folder / "tls"
    return Client(
        Target(
            deployment.target,
            (tls / "ca.pem").read_bytes(),
            (tls / f"{name}.pem").read_bytes(),
            (tls / f"{name}.key").read_bytes(),
            connections=2,
        )
    )


def remote(caller: Client, key_id: str) -> RemotePrivateKey:
    return RemotePrivateKey.of(caller, key_id)


def attach(deployment: Deployment, name: str, certificate: x509.Certificate) -> None:
    """Give a key the certificate that was signed for it: keys without one get it by another `init`."""
    path = deployment.folder / "pki" / f"{name}.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    deployment.provisioning.write_text(provisioning(deployment))
    deployment.command("init", str(deployment.provisioning))


def keep(deployment: Deployment, name: str, artefact: bytes) -> None:
    (deployment.folder / "signed" / name).write_bytes(artefact)


def refused(what: str, call: Callable[[], object]) -> None:
    try:
        call()
    except CallError as error:
        said(f"{what}:")
        said(f"    {error.clause or 'no clause'}: {error.message}")
        return
    raise Failed(f"{what} was not refused")


def heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def said(text: str) -> None:
    print(f"   {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
