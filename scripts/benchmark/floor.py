"""The work nobody can avoid: one signature in the module and one verification, as C does them."""

import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench_deployment import KEY_ID, LABEL, REPOSITORY, Deployment

NATIVE = REPOSITORY / "scripts" / "bench_native"


@dataclass(frozen=True)
class Floor:
    """CPU microseconds of one raw C_Sign and one raw OpenSSL verification."""

    sign_us: float
    verify_us: float
    verify_how: str

    @property
    def total_us(self) -> float:
        """Both."""
        return self.sign_us + self.verify_us

    def mean(self, other: "Floor") -> "Floor":
        """Between two measurements, one before and one after what is compared with them."""
        return Floor(
            (self.sign_us + other.sign_us) / 2, (self.verify_us + other.verify_us) / 2, self.verify_how
        )


def measure(deployment: Deployment) -> Floor:
    """Measure both on the deployment's own token and key."""
    program = build("raw_sign", deployment.folder, ["-ldl"])
    ran = subprocess.run(
        [
            program,
            str(deployment.library or _softhsm()),
            LABEL,
            str(deployment.folder / "pin"),
            KEY_ID,
            "20000",
        ],
        env=deployment.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    said = subprocess.run(
        ["openssl", "speed", "-seconds", "2", "ecdsap256"], capture_output=True, text=True, check=True
    ).stdout
    per_second = float(re.findall(r"ecdsa \(nistp256\)\s+\S+\s+\S+\s+(\S+)\s+(\S+)", said)[0][1])
    version = subprocess.run(
        ["openssl", "version"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    return Floor(
        json.loads(ran.stdout)["cpu_us"],
        1e6 / per_second,
        f"openssl speed ecdsap256, OpenSSL {version}, one core",
    )


def slow_module(folder: Path) -> Path:
    """Build the module that forwards to SoftHSM and takes 2 ms over each C_Sign."""
    library = folder / "slow_module.so"
    subprocess.run(
        ["gcc", "-O2", "-shared", "-fPIC", "-o", str(library), str(NATIVE / "slow_module.c"), "-ldl"],
        check=True,
    )
    return library


def build(name: str, folder: Path, libraries: list[str]) -> str:
    """Compile one of the C programs."""
    program = folder / name
    if not program.exists():
        subprocess.run(["gcc", "-O2", "-o", str(program), str(NATIVE / f"{name}.c"), *libraries], check=True)
    return str(program)


def _softhsm() -> Path:
    from bench_deployment import softhsm

    return softhsm.library()
