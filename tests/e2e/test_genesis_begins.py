"""A deployment begins once, with a genesis that everyone signed for it and for these policies; `init` may come behind one."""

import json
from pathlib import Path

import orjson
import pytest

from cryptosvc.core import dsse
from tests import governed
from tests.deployment import CALLERS, KEYS, REPOSITORY, Deployment


def drawn_up(folder: Path) -> tuple[Deployment, list[str]]:
    """A genesis drawn up and signed, not begun; the files after each signature."""
    deployment, _ = governed.drawn_up(folder)
    return deployment, [str(folder / f"genesis.{number}") for number in range(len(governed.NAMES) + 1)]


def refused(deployment: Deployment, *arguments: str) -> str:
    """The rule a command is refused by."""
    done = deployment.run(*arguments, "--json")
    assert done.returncode in {2, 3}, done.stdout + done.stderr
    rule: str = json.loads(done.stdout)["error"]["rule"]
    return rule


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> tuple[Deployment, list[str]]:
    return drawn_up(tmp_path_factory.mktemp("genesis"))


def test_a_genesis_begins_where_everyone_signed_it_and_only_once(begun, tmp_path: Path):
    deployment, files = begun
    config = ("--config", str(deployment.config))
    # 1 not everyone has signed
    assert refused(deployment, "genesis", files[3], *config) == "genesis/signatures"
    assert refused(deployment, "genesis", files[0], *config) == "dsse/fields"
    # 2 nobody signs twice, and no stranger at all
    again = ("--key", str(deployment.folder / "ada.pem"), "-o", str(tmp_path / "again"), "--yes")
    assert refused(deployment, "genesis-sign", files[4], *again) == "genesis/signatures"
    stranger = str(deployment.folder / "tls" / "office.key")
    other = ("--key", stranger, "-o", str(tmp_path / "other"), "--yes")
    assert refused(deployment, "genesis-sign", files[0], *other) in {"genesis/signatures", "key/file"}
    # 3 an octet changed after it was signed
    envelope = dsse.parse(Path(files[4]).read_bytes())
    document = orjson.loads(envelope.payload)
    document["custodians"][0]["name"] = "Mallory"
    payload = orjson.dumps(document, option=orjson.OPT_SORT_KEYS)
    forged = tmp_path / "forged"
    forged.write_bytes(dsse.emit(dsse.Envelope(envelope.payload_type, payload, envelope.signatures)))
    assert refused(deployment, "genesis", str(forged), *config) == "dsse/signature"
    # 4 it is for this deployment, and for these policies
    deployment.configure(system="another")
    assert refused(deployment, "genesis", files[4], *config) == "genesis/other-deployment"
    policies = tmp_path / "policies"
    policies.mkdir()
    for path in (REPOSITORY / "policies").iterdir():
        if path.is_file():
            (policies / path.name).write_bytes(path.read_bytes())
    (policies / "governance.toml").write_bytes((policies / "governance.toml").read_bytes() + b"# changed\n")
    deployment.configure(system="fault")
    changed = deployment.config.read_text().replace(str(REPOSITORY / "policies"), str(policies))
    (deployment.folder / "changed.toml").write_text(changed)
    elsewhere = ("--config", str(deployment.folder / "changed.toml"))
    assert refused(deployment, "genesis", files[4], *elsewhere) == "genesis/policies"
    # 5 none of this has begun anything
    assert not (deployment.folder / "head.anchor").exists()
    assert deployment.json("genesis", files[4], *config)["environment"] == "test"
    assert refused(deployment, "genesis", files[4], *config) == "genesis/begun"


def test_init_comes_behind_a_genesis_that_says_so(tmp_path: Path):
    deployment, files = drawn_up(tmp_path)
    callers = CALLERS.replace('"auditor"', '"reader"').replace("auditor.pem", "reader.pem")
    provisioning = f'genesis = "{files[4]}"\n{KEYS}{callers}'
    deployment.identity("reader")
    answer = deployment.init(provisioning)
    assert "reader" in answer["callers_registered"]
    assert "audit" not in "".join(answer["keys_generated"])
    log = deployment.verified_log()
    first = log.entries[0].fields
    assert first["shortcut"] is True
    assert len(first["genesis"]) == 64
    reasons = [next(iter(one.fields["because"])) for one in log.entries[1:]]
    assert reasons[: len(governed.NAMES)] == ["genesis"] * len(governed.NAMES)
    assert reasons[-1] == "init"


def test_a_custodian_who_may_not_be_one_is_refused_before_anybody_signs(tmp_path: Path):
    deployment, _ = governed.drawn_up(tmp_path, signed=False)
    file = tmp_path / "genesis.toml"
    unchecked = "\n".join(
        line for line in file.read_text().splitlines() if not line.startswith("security_check_on")
    )
    file.write_text(unchecked)
    draft = ("genesis-draft", str(file), "--config", str(deployment.config), "-o", str(tmp_path / "draft"))
    assert refused(deployment, *draft) == "custody/security-check"
    file.write_text(unchecked.replace('name = "Ada"', 'nmae = "Ada"'))
    assert refused(deployment, *draft) == "config/unknown-key"
    assert not (tmp_path / "draft").exists()
