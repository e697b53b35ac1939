"""The policies of this repository, as bytes and loaded."""

from pathlib import Path

import pytest

from cryptosvc.adapters.policy import CedarPolicy, load_policy

POLICIES = Path(__file__).resolve().parents[2] / "policies"


@pytest.fixture(scope="session")
def policy_files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in POLICIES.iterdir() if path.is_file()}


@pytest.fixture(scope="session")
def table_files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (POLICIES / "tests").iterdir()}


@pytest.fixture(scope="session")
def policy(policy_files: dict[str, bytes]) -> CedarPolicy:
    return load_policy(policy_files)
