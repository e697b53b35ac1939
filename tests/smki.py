"""A deployment with a whole SMKI-like hierarchy whose certificates the service itself signs, through pyca's builders."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from cryptosvc.client.calls import Client
from cryptosvc.client.keys import RemotePrivateKey
from tests import certificates, duis_documents, precommands
from tests.deployment import Deployment, prepared

OPERATOR = """
[[callers]]
id = "operator"
certificate = "tls/operator.pem"
user_roles = ["DCC"]
grants = [{ key_class = "root-oca" }, { key_class = "issuing-oca" }]
"""
SUPPLIER = f"""
[[callers]]
id = "supplier"
certificate = "tls/supplier.pem"
user_roles = ["IS"]
user_ids = ["{precommands.SUPPLIER}"]
grants = [{{ key_class = "command-signing" }}, {{ key_class = "xml-signing" }}]
"""
_ORGANISATION = f'eui64 = "{precommands.SUPPLIER}"'
_KEYS = {
    "root-oca": ("root-oca", "role = 0"),
    "issuing-oca": ("issuing-oca", "role = 7"),
    "supplier-signing": ("command-signing", f"role = 2\n{_ORGANISATION}"),
    "supplier-xml": ("xml-signing", f"role = 135\n{_ORGANISATION}"),
}


def make_smki(folder: Path) -> Deployment:
    """Keys of every class that callers use, without certificates yet; not started."""
    duis = duis_documents.EXAMPLES
    deployment = prepared(
        folder,
        more=f'[duis]\nschema = "{duis / "demo.xsd"}"\nxmldsig_schema = "{duis / "xmldsig-subset.xsd"}"\n',
    )
    deployment.identity("operator")
    (folder / "pki").mkdir()
    deployment.init(provisioning(deployment))
    return deployment


def provisioning(deployment: Deployment) -> str:
    """The provisioning file; certificates that exist by now are named in it."""
    tables = []
    for key_id, (key_class, facts) in _KEYS.items():
        path = deployment.folder / "pki" / f"{key_id}.pem"
        certificate = f'certificate = "pki/{key_id}.pem"' if path.exists() else ""
        tables.append(f'[[keys]]\nid = "{key_id}"\nclass = "{key_class}"\n{facts}\n{certificate}\n')
    return "\n".join((*tables, OPERATOR, SUPPLIER))


def attach(deployment: Deployment, key_id: str, certificate: x509.Certificate) -> None:
    """Give a key its certificate, while the service runs."""
    path = deployment.folder / "pki" / f"{key_id}.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    deployment.init(provisioning(deployment))


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def sign_hierarchy(deployment: Deployment, operator: Client) -> tuple[x509.Certificate, x509.Certificate]:
    """Root and Issuing OCA certificates, signed by the running service; the keys have them then."""
    start = now() - timedelta(minutes=1)
    root_key = RemotePrivateKey.of(operator, "root-oca")
    root = certificates.root_builder(root_key.public_key(), "ZZ", 0x11, start, 18_263).sign(
        root_key, hashes.SHA256()
    )
    attach(deployment, "root-oca", root)
    issuing_key = RemotePrivateKey.of(operator, "issuing-oca")
    issuing = certificates.issuing_builder(der(root), issuing_key.public_key(), "Z9", 0x22, start, 9132).sign(
        root_key, hashes.SHA256()
    )
    attach(deployment, "issuing-oca", issuing)
    return root, issuing


def sign_organisation(
    deployment: Deployment, operator: Client, supplier: Client, issuing: x509.Certificate, key_id: str
) -> x509.Certificate:
    """An Organisation certificate for one of the supplier's keys, signed by the running service."""
    role = {"supplier-signing": 2, "supplier-xml": 135}[key_id]
    certificate = certificates.organisation_builder(
        der(issuing),
        RemotePrivateKey.of(supplier, key_id).public_key(),
        role=role,
        entity=str(precommands.SUPPLIER),
        serial=x509.random_serial_number() >> 36 | 1 << 120,
        start=now() - timedelta(minutes=1),
    ).sign(RemotePrivateKey.of(operator, "issuing-oca"), hashes.SHA256())
    attach(deployment, key_id, certificate)
    return certificate


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)
