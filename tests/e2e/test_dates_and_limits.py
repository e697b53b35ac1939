"""A date comes and a limit is reached in a running service, on every worker, with nobody there; the log derives it.

Covers SEC G5.13(b).
"""

import json
import time
from pathlib import Path

from cryptosvc.client.errors import WrongState
from tests import governed
from tests.deployment import Deployment, pre_command_request
from tests.e2e.test_governed_deployment import ENTITY, KEY, authorities, caller, certified
from tests.governed import Office

SECONDS_AHEAD = 4
WRITTEN_WITHIN_SECONDS = 30


def refusal_of(deployment: Deployment, counter: int) -> str:
    """Rule by which a signature is refused; empty where it is given. Another connection, and so another worker."""
    with deployment.client("supplier") as supplier:
        try:
            supplier.sign(pre_command_request(counter, key_id=KEY))
        except WrongState as refused:
            return refused.rule
    return ""


def state(office: Office) -> str:
    """What the register says of the key."""
    found = [json.loads(one.document) for one in office.calls.records("key-record")]
    return next(str(one["state"]) for one in found if one["key_id"] == KEY)


def test_a_key_becomes_active_by_date_and_is_over_by_its_limit(tmp_path: Path):
    deployment, people = governed.founded(tmp_path)
    for name in ("operator", "supplier"):
        deployment.identity(name)
    with deployment.serving(), deployment.client("office") as client:
        office = Office(client, people)
        office.carry(
            "caller.register", "operator", record=caller(deployment, "operator", "root-oca", "issuing-oca")
        )
        office.carry("caller.register", "supplier", record=caller(deployment, "supplier", "command-signing"))
        with deployment.client("operator") as operator, deployment.client("supplier") as supplier:
            issuing = authorities(office, operator)
            office.key(KEY, "command-signing", role=2, eui64=ENTITY)
            certified(office, operator, supplier, issuing)
        begins = int(time.time()) + SECONDS_AHEAD
        office.carry("key.activate", KEY, on=begins, usage_limit=2)
        assert refusal_of(deployment, 1) == "lifecycle/state"
        time.sleep(max(0.0, begins + 0.01 - time.time()))
        rules = [refusal_of(deployment, 10 + number) for number in range(6)]
        assert rules[:2] == ["", ""]
        assert set(rules[2:]) <= {"lifecycle/usage-limit", "schedule/usage-limit", "lifecycle/state"}
        end = time.monotonic() + WRITTEN_WITHIN_SECONDS
        while state(office) != "deactivated":
            assert time.monotonic() < end, state(office)
            time.sleep(0.2)
        assert refusal_of(deployment, 20) == "lifecycle/state"
    log = deployment.verified_log()
    reasons = [one.fields["because"] for one in log.of_kind("key-record") if one.fields["key"] == KEY]
    assert reasons[-1] == {"rule": "schedule/usage-limit"}
    assert {"rule": "schedule/activation-date"} in reasons
    signed = [one for one in log.uses(KEY) if one.fields["content_kind"] != "certification-request"]
    assert len(signed) == 2
