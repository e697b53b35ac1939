"""In live nothing is issued under the certificate policies of the test hierarchy because somebody forgot to say."""

from pathlib import Path

import pytest

from cryptosvc.config.settings import Settings, read_settings
from cryptosvc.core.errors import Malformed
from cryptosvc.wiring.profiles import profiles

EXAMPLE = (Path(__file__).resolve().parents[2] / "config.example.toml").read_text()
CHOSEN = {
    "root_policies": '["2.5.29.32.0"]',
    "issuing_policies": '["1.2.3"]',
    "organisation_policies": '["1.2.4"]',
}


def settings(folder: Path, environment: str, chosen: dict[str, str]) -> Settings:
    lines = "\n".join(f"{name} = {value}" for name, value in chosen.items())
    file = folder / "cryptosvc.toml"
    text = EXAMPLE.replace('environment = "test"', f'environment = "{environment}"')
    file.write_text(text.replace("[x509]", f"[x509]\n{lines}"))
    return read_settings(file)


@pytest.mark.parametrize("left_out", list(CHOSEN))
def test_live_leaves_none_of_them_out(tmp_path: Path, left_out: str) -> None:
    chosen = {name: value for name, value in CHOSEN.items() if name != left_out}
    with pytest.raises(Malformed) as refused:
        profiles(settings(tmp_path, "live", chosen))
    assert (refused.value.rule, refused.value.field) == ("config/live-policies", f"x509.{left_out}")
    assert "policy OIDs" in refused.value.message
    # the same file is fine in test
    assert profiles(settings(tmp_path, "test", chosen)).x509.crl_octets == 262_144


def test_live_with_all_three_has_what_was_chosen(tmp_path: Path) -> None:
    chosen = profiles(settings(tmp_path, "live", CHOSEN | {"root_policies": "[]"})).x509
    assert (chosen.root_policies, chosen.issuing_policies, chosen.organisation_policies) == (
        frozenset(),
        {"1.2.3"},
        {"1.2.4"},
    )
