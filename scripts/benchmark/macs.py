"""MACs of Commands in batches, against the raw work of the same module: what the service adds to derivation and GMAC.

The module is SoftHSM2, which has not the key derivation of GBCS: Z comes out and the key goes back in, in both.
"""

import hashlib
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import floor
from bench_deployment import LABEL, Deployment
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from measure import cpu_seconds

from cryptosvc.client.calls import Client
from cryptosvc.client.channels import Target
from cryptosvc.client.messages import request
from cryptosvc.pb.v1 import crypto_pb2

KEY_ID = "broker-agreement"
BROKER = "90-B3-D5-1F-30-00-00-02"
DEVICE = "00-DB-12-34-00-00-00-01"
BATCH = 256
VARIANT = "8.9"
PROVISIONING = f"""\
[[keys]]
id = "{KEY_ID}"
class = "key-agreement"
role = 4
eui64 = "{BROKER}"

[[callers]]
id = "broker"
certificate = "tls/caller.pem"

[[callers.grants]]
operation = "mac"
key_class = "key-agreement"
"""


@dataclass(frozen=True)
class Macs:
    """What was measured.

    Args:
        macs: how many.
        service_us: CPU of the service's worker per MAC.
        raw_us: CPU of the module's work per MAC, called from C.

    """

    macs: int
    service_us: float
    raw_us: float

    @property
    def ratio(self) -> float:
        """The one in the other."""
        return self.service_us / self.raw_us


def measure(folder: Path, batches: int) -> Macs:
    """Make MACs of Commands that all differ, in batches of 256 on one worker, and the raw work before and after."""
    deployment = Deployment(
        folder, provisioning=PROVISIONING, settings=f'\n[gbcs]\naccess_control_brokers = ["{BROKER}"]\n'
    )
    deployment.make()
    before = _raw(deployment)
    workers = deployment.start(1)
    try:
        target = Target(
            address=deployment.target,
            authorities=(folder / "tls" / "ca.pem").read_bytes(),
            certificate_chain=(folder / "tls" / "caller.pem").read_bytes(),
            private_key=(folder / "tls" / "caller.key").read_bytes(),
        )
        certificate = device_certificate()
        prepared = [
            [
                request(
                    KEY_ID,
                    gbcs_command=command(1 + number * BATCH + index),
                    device_certificate=certificate,
                    service_reference_variant=VARIANT,
                )
                for index in range(BATCH)
            ]
            for number in range(batches + 4)
        ]
        with Client(target) as client:
            for batch in prepared[:4]:  # warms up
                _made(client, batch)
            used = cpu_seconds(workers)
            for batch in prepared[4:]:
                _made(client, batch)
            time.sleep(0.05)
            used = cpu_seconds(workers) - used
    finally:
        deployment.stop()
    return Macs(batches * BATCH, 1e6 * used / (batches * BATCH), (before + _raw(deployment)) / 2)


def _made(client: Client, batch: list[crypto_pb2.SignRequest]) -> None:
    for outcome in client.apply_mac_batch(batch):
        if not isinstance(outcome, crypto_pb2.SignResponse) or len(outcome.signature) != 12:
            raise SystemExit(f"a Command got no MAC: {outcome}")


def _raw(deployment: Deployment) -> float:
    program = floor.build("raw_mac", deployment.folder, ["-ldl"])
    token = deployment.token
    said = floor.together(
        1, [program, token["library"], LABEL, token["pin_file"], KEY_ID, "10000"], deployment.environment
    )
    return float(json.loads(said[0])["cpu_us"])


def command(counter: int) -> bytes:
    """A Command without signature from the broker: CS07, read the device join details."""
    return b"".join(
        (
            b"\xdf\x09\x01",
            counter.to_bytes(8),
            b"\x08",
            bytes.fromhex(BROKER.replace("-", "")),
            b"\x08",
            bytes.fromhex(DEVICE.replace("-", "")),
            b"\x00\x02\x00\x13\x02\x05\x00\x00",
        )
    )


def device_certificate() -> bytes:
    """A Device's certificate for key agreement; in environment test its chain is not looked at."""
    key = ec.generate_private_key(ec.SECP256R1())
    hardware = bytes.fromhex("06082b060104018237020408" + DEVICE.replace("-", ""))
    name = x509.OtherName(
        x509.ObjectIdentifier("1.3.6.1.5.5.7.8.4"), b"\x30" + bytes((len(hardware),)) + hardware
    )
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=True,
        key_cert_sign=False,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.ORGANIZATIONAL_UNIT_NAME, "07")]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=30))
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectAlternativeName([name]), critical=True)
        .add_extension(x509.SubjectKeyIdentifier(_identifier(key.public_key())), critical=False)
        .sign(key, hashes.SHA256())
    )
    return made.public_bytes(serialization.Encoding.DER)


def _identifier(key: ec.EllipticCurvePublicKey) -> bytes:
    """Method 2 of RFC 5280 4.2.1.2: 0100 and the last 60 bits of SHA-1 of the point."""
    point = key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint)
    last = hashlib.sha1(point, usedforsecurity=False).digest()[-8:]
    return bytes((0x40 | last[0] & 0x0F,)) + last[1:]
