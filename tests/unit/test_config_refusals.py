"""The configuration file: the example reads as it stands, and what is wrong in a file is named."""

from pathlib import Path

import pytest

from cryptosvc.config.provisioning import read_provisioning
from cryptosvc.config.settings import read_settings
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import Environment
from cryptosvc.core.registry import KeyState

REPOSITORY = Path(__file__).resolve().parents[2]
EXAMPLE = (REPOSITORY / "config.example.toml").read_text()


def test_the_example_is_a_configuration():
    settings = read_settings(REPOSITORY / "config.example.toml")

    assert settings.deployment.environment is Environment.TEST
    assert settings.modules[0].pin_file == REPOSITORY / "pin"
    assert settings.store.url == f"sqlite:///{REPOSITORY / 'cryptosvc.db'}"
    assert settings.duis is None


ALTERNATIVES = (
    '# url = "postgresql',
    "# pin_credential",
    "# watched",
    "# ended_by",
    "# by",
    "# fact",
    "# threshold",
    "# window_seconds",
    "# syslog",
    "# transport",
)
"""Lines of the example that stand for something else than the lines beside them."""


def test_every_setting_of_the_example_that_is_commented_out_is_a_setting(tmp_path):
    file = tmp_path / "all.toml"
    lines = [
        line.removeprefix("# ") if line.startswith("# ") and (" = " in line or line.endswith("]")) else line
        for line in EXAMPLE.splitlines()
        if not line.startswith(ALTERNATIVES)
    ]
    file.write_text("\n".join(lines))

    settings = read_settings(file)

    assert settings.duis is not None
    assert settings.x509.organisation_days == 3653
    assert settings.server.metrics == "127.0.0.1:9464"


@pytest.mark.parametrize(
    ("old", "new", "rule", "field", "said"),
    [
        ("listen =", "listne =", "config/unknown-key", "server.listne", "did you mean 'listen'"),
        ("[store]", "[stor]", "config/unknown-key", "stor", "did you mean 'store'"),
        ("sessions = 2", "sesions = 2", "config/unknown-key", "modules.0.sesions", "did you mean 'sessions'"),
        ('system = "example-supplier-is"', "", "config/missing", "deployment.system", "missing"),
        (
            'worker_country = "GB"',
            'worker_country = "gb"',
            "config/value",
            "deployment.worker_country",
            "capital",
        ),
        ('environment = "test"', 'environment = "prod"', "config/value", "deployment.environment", "test"),
        (
            "max_batch_items = 256",
            "max_batch_items = 0",
            "config/value",
            "server.max_batch_items",
            "greater than",
        ),
        ('"127.0.0.1:8443"', '"8443"', "config/value", "server.listen", "HOST:PORT"),
        ('"sqlite:///cryptosvc.db"', '"mysql://db/x"', "config/value", "store.url", "sqlite:///"),
        (
            '"sqlite:///cryptosvc.db"',
            '"postgresql://cryptosvc:hunter2@db/x"',
            "config/value",
            "store.url",
            "no password",
        ),
        ('pin_file = "pin"', "", "config/value", "modules.0", "exactly one of pin_file and pin_credential"),
        ('pin_file = "pin"', 'pin = "1234"', "config/unknown-key", "modules.0.pin", "no such setting"),
        ("[deployment]", "[deployment", "config/toml", "", "not TOML"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, old, new, rule, field, said):
    file = tmp_path / "cryptosvc.toml"
    assert EXAMPLE.count(old) >= 1
    file.write_text(EXAMPLE.replace(old, new, 1))

    with pytest.raises(Malformed) as refused:
        read_settings(file)

    assert refused.value.rule == rule
    assert refused.value.field == field
    assert said in refused.value.message
    assert "hunter2" not in refused.value.message
    assert "1234" not in refused.value.message


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(Malformed, match="No such file"):
        read_settings(tmp_path / "absent.toml")


def test_two_modules_of_one_name(tmp_path):
    file = tmp_path / "cryptosvc.toml"
    start, end = EXAMPLE.index("[[modules]]"), EXAMPLE.index("[policy]")
    file.write_text(EXAMPLE[:end] + EXAMPLE[start:end] + EXAMPLE[end:])

    with pytest.raises(Malformed, match="two modules have the same name"):
        read_settings(file)


PROVISIONING = """
[[keys]]
id = "supplier-signing"
class = "command-signing"
certificate = "supplier.pem"
role = 2

[[callers]]
id = "supplier"
certificate = "tls.pem"
user_roles = ["IS"]
user_ids = ["90-B3-D5-1F-30-01-00-00"]

[[callers.grants]]
key_class = "command-signing"
"""


def test_a_provisioning_file(tmp_path):
    file = tmp_path / "provisioning.toml"
    file.write_text(PROVISIONING)

    provisioning = read_provisioning(file)

    assert provisioning.keys[0].state is KeyState.ACTIVE
    assert provisioning.keys[0].certificate == tmp_path / "supplier.pem"
    assert provisioning.callers[0].grants[0].key_class == "command-signing"


@pytest.mark.parametrize(
    ("old", "new", "rule", "said"),
    [
        ('class = "command-signing"', 'class = "comand-signing"', "config/value", "there is no key class"),
        ("role = 2", "role = 99", "config/value", "role"),
        ("90-B3-D5", "90-b3-D5", "config/value", "EUI-64"),
        (
            "[[callers]]",
            '[[keys]]\nid = "supplier-signing"\nclass = "xml-signing"\n[[callers]]',
            "config/value",
            "two keys",
        ),
        ("[[callers.grants]]", "[[callers.grant]]", "config/unknown-key", "did you mean 'grants'"),
    ],
)
def test_a_wrong_provisioning_file(tmp_path, old, new, rule, said):
    file = tmp_path / "provisioning.toml"
    file.write_text(PROVISIONING.replace(old, new, 1))

    with pytest.raises(Malformed) as refused:
        read_provisioning(file)

    assert refused.value.rule == rule
    assert said in refused.value.message
