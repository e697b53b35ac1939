"""Which module a key may be in: accepted standards, the Information Classification Scheme, and `policy explain`."""

from dataclasses import replace
from pathlib import Path

import pytest

from cryptosvc.adapters.policy import CedarPolicy
from cryptosvc.adapters.policy.source import parse_source
from cryptosvc.config.settings import read_settings
from cryptosvc.core.assurance import AcceptedStandard, AssuranceProfile, Classified
from cryptosvc.core.case import Case
from cryptosvc.core.content import forms
from cryptosvc.core.errors import Malformed
from cryptosvc.core.life import Asset
from cryptosvc.core.names import Environment, ModuleName, Operation
from cryptosvc.core.supply import SupplyProfile
from cryptosvc.flow.gather import Gatherer
from cryptosvc.wiring import modules, review
from tests.conftest import REPOSITORY
from tests.corridor import MODULE, SUPPLIER_KEY, Corridor, pre_command_request

HERE, ELSEWHERE = ModuleName("here"), ModuleName("elsewhere")
SCHEME = (Classified("OFFICIAL"), Classified("SECRET", 4), Classified("KEYS", 3, frozenset({HERE})))
MODULES = """
[[modules]]
name = "soft"
library = "/nowhere/soft.so"
token_label = "a"
token_serial = "1"
pin_file = "pin"
manufacturer = "m"
model = "m"
firmware = "1"
country = "GB"

[[modules]]
name = "hsm-two"
library = "/nowhere/hsm.so"
token_label = "b"
token_serial = "2"
pin_file = "pin"
manufacturer = "m"
model = "m"
firmware = "1"
country = "GB"
standard = "FIPS 140-2"
level = 2
certificate = "2222"

[[modules]]
name = "hsm-three"
library = "/nowhere/hsm.so"
token_label = "c"
token_serial = "3"
pin_file = "pin"
manufacturer = "m"
model = "m"
firmware = "1"
country = "GB"
standard = "FIPS 140-3"
level = 3
certificate = "3333"

[[policy.information_classification]]
classification = "OFFICIAL"

[[policy.information_classification]]
classification = "SECRET"
level = 4
"""


@pytest.fixture(scope="module")
def policy() -> CedarPolicy:
    folder = REPOSITORY / "policies"
    return CedarPolicy(
        parse_source({one.name: one.read_bytes() for one in folder.iterdir() if one.is_file()})
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    example = (REPOSITORY / "config.example.toml").read_text()
    before, _, rest = example.partition("[[modules]]")
    path = tmp_path / "config.toml"
    path.write_text(before + rest[rest.index("[policy]") :] + MODULES)
    return path


@pytest.mark.parametrize(
    ("classification", "module", "level", "established"),
    [
        ("OFFICIAL", HERE, 3, True),
        ("OFFICIAL", ELSEWHERE, 4, True),
        ("OFFICIAL", HERE, 2, False),
        ("SECRET", HERE, 3, False),
        ("SECRET", HERE, 4, True),
        ("KEYS", HERE, 3, True),
        ("KEYS", ELSEWHERE, 4, False),
        ("", HERE, 4, False),
        ("official", HERE, 4, False),
    ],
)
def test_the_scheme_says_which_module_is_established(
    classification: str, module: ModuleName, level: int, established: bool
) -> None:
    assert AssuranceProfile(scheme=SCHEME).establishes(classification, module, level) is established


@pytest.mark.parametrize(("level", "established"), [(0, False), (2, False), (3, True), (4, True)])
def test_without_a_scheme_every_classification_asks_for_level_3(level: int, established: bool) -> None:
    assert AssuranceProfile().establishes("anything", HERE, level) is established


def test_a_scheme_never_asks_for_less_than_level_3() -> None:
    assert not AssuranceProfile(scheme=(Classified("OPEN", 1),)).establishes("OPEN", HERE, 2)


@pytest.mark.parametrize(("classification", "allowed"), [("KEYS", True), ("SECRET", False), ("", False)])
async def test_the_keys_classification_and_the_policies_decide(
    policy: CedarPolicy, classification: str, allowed: bool
) -> None:
    """G3.22, from the asset register through the fact to the decision."""
    corridor = Corridor()
    key = corridor.keys.records[SUPPLIER_KEY]
    corridor.keys.records[SUPPLIER_KEY] = replace(key, asset=Asset(classification=classification))
    scheme = (Classified("KEYS", 3, frozenset({MODULE})), Classified("SECRET", 4))
    profile = AssuranceProfile((AcceptedStandard("FIPS 140-2", 0),), scheme)
    gatherer = Gatherer(
        corridor.keys, corridor.hsm, corridor.clock, Environment.LIVE, SupplyProfile(frozenset()), profile
    )
    request = pre_command_request()
    content = forms.parse(request.form, request.payload, corridor.profiles)
    (case,) = await gatherer.gather(corridor.principal, Operation.SIGN, [(request, content)])
    assert isinstance(case, Case)
    answer = policy.decide(case.facts)
    assert answer.allowed is allowed
    assert allowed or answer.clauses == ("G3.22",)


COMMAND = {"operation": "sign", "key_class": "command-signing", "content_kind": "gbcs-pre-command"}
DOCUMENT = {"operation": "sign", "key_class": "xml-signing", "content_kind": "duis-document"}
REFUSED = {"environment": "live", "module_level": "2", "module_accepted": "no"}
THREE = "hsm-three: FIPS 140-3 level 3, certificate 3333, GB"
TWO = "hsm-two: FIPS 140-2 level 2, certificate 2222, GB"
SOFT = "soft: no standard level 0, no certificate, GB"


@pytest.mark.parametrize(
    ("asked", "classification", "would", "clause"),
    [
        (COMMAND, "", (THREE,), "G2.44(f)"),
        (DOCUMENT, "OFFICIAL", (THREE,), "G2.45"),
        (DOCUMENT, "SECRET", (), "G2.45"),
        (DOCUMENT, "", (), "G2.45"),
        (DOCUMENT | {"user_role": "IS"}, "SECRET", (), "G3.22"),
    ],
)
def test_explain_names_each_configured_module_with_its_certificate(
    policy: CedarPolicy, config: Path, monkeypatch: pytest.MonkeyPatch, asked, classification, would, clause
) -> None:
    monkeypatch.setattr(review, "load", lambda _: policy)
    found = review.explained(Path("policies"), asked | REFUSED, config, classification)
    assert found["permitted"] is False
    assert found["modules_that_would_do"] == would
    others = [one for one in (SOFT, TWO, THREE) if one not in would]
    assert found["modules_that_would_not"] == tuple(f"{one} ({clause})" for one in others)


def test_without_a_configuration_no_module_is_named(
    policy: CedarPolicy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review, "load", lambda _: policy)
    assert "modules_that_would_do" not in review.explained(Path("policies"), COMMAND | REFUSED)


def test_the_scheme_is_read_from_the_configuration(config: Path) -> None:
    profile = modules.assurance_profile(read_settings(config))
    assert profile.scheme == (Classified("OFFICIAL", 3), Classified("SECRET", 4))
    assert {row.standard for row in profile.rows} == {"FIPS 140-2", "FIPS 140-3"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            '[[policy.information_classification]]\nclassification = "OFFICIAL"',
            "two rows of one classification",
        ),
        ('[[policy.information_classification]]\nclassification = "X"\nmodules = ["gone"]', "gone"),
        ('[[policy.information_classification]]\nclassification = "X"\nlevel = 2', "level"),
    ],
)
def test_a_scheme_that_cannot_hold_is_refused(config: Path, more: str, said: str) -> None:
    config.write_text(config.read_text() + more)
    with pytest.raises(Malformed, match=said):
        read_settings(config)
