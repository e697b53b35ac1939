"""The work nobody can avoid: one signature in the module and one verification, as C does them."""

import json
import re
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from bench_deployment import KEY_ID, LABEL, REPOSITORY, Deployment

APART_SECONDS = 0.1
"""SoftHSM fails some of the logins that happen at the same instant."""
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


def measure(deployment: Deployment, copies: int) -> Floor:
    """Measure both on the deployment's own token and key.

    Args:
        deployment: whose token and key.
        copies: how many processes do the same at once. What a core gives depends on what its neighbours do, so work
            that is to be compared with a service on all cores is measured on all cores.

    """
    program = build("raw_sign", deployment.folder, ["-ldl"])
    token = deployment.token
    signing = together(
        copies, [program, token["library"], LABEL, token["pin_file"], KEY_ID, "40000"], deployment.environment
    )
    sign_us = sum(json.loads(said)["cpu_us"] for said in signing) / copies
    verifying = together(copies, ["openssl", "speed", "-seconds", "2", "ecdsap256"], deployment.environment)
    rates = [
        float(re.findall(r"ecdsa \(nistp256\)\s+\S+\s+\S+\s+(\S+)\s+(\S+)", said)[0][1]) for said in verifying
    ]
    version = subprocess.run(
        ["openssl", "version"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    how = f"openssl speed ecdsap256, OpenSSL {version}, {copies} at once"
    return Floor(sign_us, sum(1e6 / rate for rate in rates) / copies, how)


def together(copies: int, command: list[str], environment: dict[str, str]) -> list[str]:
    """Run a command so many times at once; what each printed."""
    processes = []
    for _ in range(copies):
        processes.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
        time.sleep(APART_SECONDS)
    answers = [process.communicate() for process in processes]
    if failed := [
        error for process, (_, error) in zip(processes, answers, strict=True) if process.returncode
    ]:
        raise SystemExit(f"{command[0]} failed: {failed[0]}")
    return [said for said, _ in answers]


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
