"""What is refused before a ceremony opens a module or a store."""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from cryptosvc.core.errors import CryptosvcError
from cryptosvc.wiring.ceremony import holding
from tests.ceremonies import FOLDER, script
from tests.certificates import key_pair
from tests.deployment import Deployment, prepared


class NobodyAtTheDesk:
    """Whatever is shown or asked here came too late."""

    def __getattr__(self, name: str) -> Callable[..., object]:
        def late(*_: object) -> object:
            raise AssertionError(name)

        return late


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Deployment:
    made = prepared(tmp_path_factory.mktemp("refusals") / "deployment", system="dcc-oca")
    made.configure(environment="live")
    return made


def people(folder: Path, *left_out: str) -> Path:
    entries = []
    for role, number in script("root-oca").people:
        for at in range(number if role not in left_out else number - 1):
            name = f"{role}-{at}"
            pem = key_pair(name).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            (folder / f"{name}.key").write_bytes(pem)
            entries.append(f'[[present]]\nperson = "{name}"\nroles = ["{role}"]\nkey = "{name}.key"\n')
    path = folder / "people.toml"
    path.write_text("\n".join(entries), encoding="utf-8")
    return path


def refused(deployment: Deployment, folder: Path, name: str, there: Path, *, again: bool = False) -> str:
    hold = holding.resume if again else holding.run
    with pytest.raises(CryptosvcError) as raised:
        hold(
            deployment.config,
            FOLDER / f"{name}.toml",
            there,
            folder / "office",
            "ceremony",
            NobodyAtTheDesk(),  # type: ignore[arg-type]  # it is nobody
        )
    assert not list(folder.glob("office/*.jsonl"))
    return raised.value.rule


def test_in_live_nobody_signs_with_a_key_in_a_file(deployment: Deployment, tmp_path: Path) -> None:
    assert refused(deployment, tmp_path, "root-oca", people(tmp_path)) == "ceremony/file-key"


def test_whoever_is_missing_is_missed(deployment: Deployment, tmp_path: Path) -> None:
    deployment.configure(environment="test")
    try:
        there = people(tmp_path, "key-custodian")
        assert refused(deployment, tmp_path, "root-oca", there) == "transcript/people"
        assert refused(deployment, tmp_path, "root-oca", people(tmp_path), again=True) == "ceremony/none"
    finally:
        deployment.configure(environment="live")


def test_a_role_nobody_can_have_is_named(deployment: Deployment, tmp_path: Path) -> None:
    there = people(tmp_path)
    there.write_text(there.read_text().replace('"witness"', '"wittness"'), encoding="utf-8")
    assert refused(deployment, tmp_path, "root-oca", there) == "config/value"


def test_one_ceremony_at_a_time_in_a_folder(deployment: Deployment, tmp_path: Path) -> None:
    deployment.configure(environment="test")
    office = tmp_path / "office"
    office.mkdir()
    descriptor = os.open(office, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        assert refused(deployment, tmp_path, "root-oca", people(tmp_path)) == "ceremony/under-way"
    finally:
        os.close(descriptor)
        deployment.configure(environment="live")
