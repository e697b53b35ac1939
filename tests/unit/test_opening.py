"""An opening is the entry that `core/record.py` defines, printed early: whatever its end, the leaf is the same."""

import json
from dataclasses import replace

import pytest
import rfc8785

from cryptosvc.core import record
from cryptosvc.core.case import Case
from cryptosvc.core.commitments import commitment
from cryptosvc.core.content import forms
from cryptosvc.core.content.base import Statement
from cryptosvc.core.errors import Corrupt, OutcomeUnknown
from cryptosvc.core.judge import Authorised, judge
from cryptosvc.core.names import Operation, RequestId
from cryptosvc.core.opening import Opening, opened
from cryptosvc.core.record import Leaf, Scope
from tests.corridor import ALLOWED, Corridor, duis_request, pre_command_request

SCOPE = Scope(system="test-system", environment="test", worker='w"0\\', software="1+abc")
SALT = bytes(range(record.SALT_OCTETS))
HOSTILE = RequestId('","outcome":null,"result_digest":null,"')


async def authorised(request) -> Authorised:
    corridor = Corridor()
    content = forms.parse(request.form, request.payload, corridor.profiles)
    (case,) = await corridor.gatherer.gather(corridor.principal, Operation.SIGN, [(request, content)])
    assert isinstance(case, Case)
    return judge(case, ALLOWED, corridor.profiles)


async def every_case() -> list[Authorised]:
    found = []
    for request in (pre_command_request(), duis_request()):
        verdict = await authorised(request)
        found.append(verdict)
        others = (replace(request, request_id=HOSTILE), replace(request, statement=Statement()))
        found += [replace(verdict, case=replace(verdict.case, request=other)) for other in others]
    return found


def as_defined(verdict: Authorised, leaf: Leaf, **end: str) -> bytes:
    """The entry as `core/record.py` would have it with these commitments."""
    entry = dict(record.opening(verdict, SCOPE))
    withheld = entry.pop("_withheld")
    assert isinstance(withheld, dict)
    beside = json.loads(leaf.withheld)
    assert {name: value for name, (_, value) in beside.items()} == withheld
    commitments = {
        name: commitment(bytes.fromhex(salt), name, value) for name, (salt, value) in beside.items()
    }
    return rfc8785.dumps({**entry, "commitments": commitments, **end})


async def test_a_signed_opening_is_the_entry_of_a_signed_use():
    for verdict in await every_case():
        opening, payload_digest = opened(verdict, SCOPE, SALT)
        leaf = opening.signed(bytes(range(32)))
        assert leaf.entry == as_defined(verdict, leaf, outcome="signed", result_digest=bytes(range(32)).hex())
        assert leaf.withheld == rfc8785.dumps(json.loads(leaf.withheld))
        assert json.loads(leaf.entry)["payload_digest"] == payload_digest.hex()


@pytest.mark.parametrize(
    "error", [OutcomeUnknown("?", rule="hsm/silent"), Corrupt("!", rule='check/"signature"')]
)
async def test_a_failed_opening_is_the_entry_of_a_failed_use(error):
    for verdict in await every_case():
        leaf = opened(verdict, SCOPE, SALT)[0].failed(error)
        assert leaf.entry == as_defined(verdict, leaf, outcome=error.reason.value.lower(), rule=error.rule)


async def test_no_two_fields_share_a_salt():
    for verdict in await every_case():
        beside = json.loads(opened(verdict, SCOPE, SALT)[0].withheld)
        salts = [bytes.fromhex(salt) for salt, _ in beside.values()]
        assert len(salts) == len(set(salts)) >= 2
        assert {len(salt) for salt in salts} == {record.SALT_OCTETS}


async def test_what_is_kept_for_the_sweeper_reads_back_as_the_same_opening():
    for verdict in await every_case():
        opening, _ = opened(verdict, SCOPE, SALT)
        assert Opening.of_document(json.loads(opening.emit())) == opening
