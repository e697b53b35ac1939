"""Who approves a transfer: the SMKI PMA for all that is connected with a Public Key, else the body configured for the class."""

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.adapters.policy.governance import read_governance
from cryptosvc.core.canonical import canonical
from cryptosvc.core.custodian import CustodianRole
from cryptosvc.core.errors import AwaitingApproval, CryptosvcError, Forbidden, Malformed
from cryptosvc.core.handover import checks
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.transfer.bodies import PMA, Body, body_of, is_connected, require_body
from cryptosvc.core.transfer.papers import APPROVAL_TYPE
from tests.governance import person
from tests.transfers import envelope

STORAGE = ("storage-binding", "storage-wrapping")
BODIES = (Body("smets1-security", frozenset(STORAGE), frozenset({"sam", "sue"})),)
GOVERNANCE = (Path(__file__).parents[2] / "policies" / "governance.toml").read_text()
ROW = (
    '[[transfer_body]]\nname = "smets1-security"\nclasses = ["storage-wrapping"]\nmembers = ["sam", "sue"]\n'
)


def test_which_body() -> None:
    assert body_of(STORAGE, BODIES) == "smets1-security"
    assert body_of(STORAGE, ()) == PMA
    assert {name for name in KEY_CLASSES if is_connected(name)} & set(STORAGE) == set()
    for name in filter(is_connected, KEY_CLASSES):
        # whatever is configured: such a row cannot be read, and would not count
        assert body_of([name], (Body("other", frozenset({name}), frozenset()),)) == PMA
    with pytest.raises(Forbidden) as refused:
        body_of(["command-signing", *STORAGE], BODIES)
    assert refused.value.rule == "transfer/bodies"


@pytest.mark.parametrize("bodies", [BODIES, None], ids=["here", "in a replay"])
def test_a_plan_names_the_body(bodies: tuple[Body, ...] | None) -> None:
    require_body("smets1-security", STORAGE, bodies)
    require_body(PMA, ["root-oca"], bodies)
    wrong: list[Callable[[], None]] = [lambda: require_body("smets1-security", ["tls"], bodies)]
    if bodies is not None:
        wrong += [lambda: require_body(PMA, STORAGE, bodies), lambda: require_body("else", STORAGE, bodies)]
    for one in wrong:
        with pytest.raises(Forbidden) as refused:
            one()
        assert refused.value.rule == "transfer/other-body"


def test_who_signs_for_a_body() -> None:
    people = {name: person(name, CustodianRole.TRANSFER_APPROVER) for name in ("sam", "sue", "tom")}
    people |= {name: person(name, CustodianRole.PMA_APPROVER) for name in ("pat", "pia")}
    custodians = [one.record for one in people.values()]
    payload = canonical({"v": 1})

    def read(body: str, bodies: tuple[Body, ...] | None, *names: str) -> tuple[str, ...]:
        keys: list[ec.EllipticCurvePrivateKey] = [people[name].key for name in names]
        signed = envelope(APPROVAL_TYPE, payload, *keys)
        return checks.read_body(signed, APPROVAL_TYPE, custodians, body, bodies)[1]

    assert read("smets1-security", BODIES, "sue", "sam") == ("sam", "sue")
    assert read(PMA, BODIES, "pat", "pia") == ("pat", "pia")
    assert read("smets1-security", None, "sam", "tom") == ("sam", "tom")
    for body, names, rule in (
        ("smets1-security", ("sam", "tom"), "transfer/pma-key"),  # no member
        ("smets1-security", ("pat", "pia"), "transfer/pma-key"),
        ("unknown", ("sam", "sue"), "transfer/pma-key"),
        (PMA, ("sam", "sue"), "transfer/pma-key"),
    ):
        with pytest.raises(CryptosvcError) as refused:
            read(body, BODIES, *names)
        assert refused.value.rule == rule
    with pytest.raises(AwaitingApproval):
        read("smets1-security", BODIES, "sam")


def test_the_file() -> None:
    assert read_governance(GOVERNANCE.encode()).transfer_bodies == ()
    (found,) = read_governance((GOVERNANCE + ROW).encode()).transfer_bodies
    assert found == Body("smets1-security", frozenset({"storage-wrapping"}), frozenset({"sam", "sue"}))
    for wrong in (
        ROW + ROW,
        ROW.replace("smets1-security", PMA),
        ROW.replace("storage-wrapping", "command-signing"),
        ROW.replace("storage-wrapping", "smets1-encryption"),
        ROW.replace('["storage-wrapping"]', "[]"),
        ROW.replace(', "sue"', ""),
        ROW + "more = 1\n",
        ROW + ROW.replace("smets1-security", "other"),
        "transfer_body = 1\n",
    ):
        text = wrong + GOVERNANCE if wrong.startswith("transfer_body") else GOVERNANCE + wrong
        with pytest.raises(Malformed) as refused:
            read_governance(text.encode())
        assert (refused.value.rule, refused.value.field) == ("governance/field", "transfer_body")
