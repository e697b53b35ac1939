"""Callers of two systems, several workers: nobody uses, sees or repeats what is not theirs; Explain says what Sign does."""

import asyncio
import json
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator

import grpc
import pytest

from cryptosvc.client.asynchronous import AsyncClient
from cryptosvc.client.errors import (
    CallError,
    Conflict,
    InvalidRequest,
    NotPermitted,
    Repeated,
    Unidentified,
    Unreachable,
    from_status,
)
from cryptosvc.client.messages import request
from cryptosvc.pb.v1 import crypto_pb2
from tests import precommands
from tests.deployment import (
    CALLERS,
    KEY,
    KEYS,
    ONCE,
    REPOSITORY,
    Deployment,
    pre_command_request,
    prepared,
)

OTHER_KEY = "of-another-system"
MORE = f"""
[[keys]]
id = "{OTHER_KEY}"
class = "command-signing"
system = "elsewhere"
role = 2
eui64 = "{precommands.SUPPLIER}"

[[callers]]
id = "elsewhere"
certificate = "tls/elsewhere.pem"
system = "elsewhere"
user_roles = ["IS"]
user_ids = ["{precommands.SUPPLIER}"]
grants = [{{ key_class = "command-signing" }}]

[[callers]]
id = "reaching"
certificate = "tls/reaching.pem"
system = "elsewhere"
user_roles = ["IS", "ES"]
user_ids = ["{precommands.SUPPLIER}"]
grants = [{{ key_class = "command-signing", keys = ["{KEY}"] }}]

[[callers]]
id = "leaving"
certificate = "tls/leaving.pem"
user_roles = ["IS"]
user_ids = ["{precommands.SUPPLIER}"]
grants = [{{ key_class = "command-signing" }}]
"""
pytestmark = pytest.mark.xdist_group("between-callers")


@pytest.fixture(scope="module")
def deployment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    deployment = prepared(tmp_path_factory.mktemp("between") / "deployment", workers=3)
    for name in ("elsewhere", "reaching", "leaving"):
        deployment.identity(name)
    deployment.init(KEYS + CALLERS + MORE)
    with deployment.serving():
        yield deployment


def test_a_key_of_another_system_is_neither_used_nor_seen(deployment: Deployment) -> None:
    with deployment.client("elsewhere", retries=ONCE) as elsewhere, deployment.client() as supplier:
        assert [key.key_id for key in elsewhere.list_keys()] == [OTHER_KEY]
        assert [key.key_id for key in supplier.list_keys()] == [KEY]
        refused = [_refusal(elsewhere, pre_command_request(1, key_id=name)) for name in (KEY, "no-such-key")]
        # what there is and what there is not look the same
        assert {(one.rule, one.clause, one.message, one.field) for one in refused} == {
            ("key/not-granted", "G2.20", refused[0].message, "key_id")
        }
        seen = []
        for name in (KEY, "no-such-key"):
            with pytest.raises(NotPermitted) as unseen:
                elsewhere.get_key(name)
            seen.append((unseen.value.rule, unseen.value.clause, unseen.value.message))
        assert seen[0] == seen[1]
        assert elsewhere.sign(pre_command_request(1, key_id=OTHER_KEY)).clause == "G2.56"
    # a grant by name reaches over, and policy holds it back, whatever role is stated
    with deployment.client("reaching", retries=ONCE) as reaching:
        stated = _refusal(reaching, pre_command_request(2))
        silent = _refusal(reaching, _changed(pre_command_request(2), user_role=""))
        exempt = _refusal(reaching, _changed(pre_command_request(2), user_role="ES"))
    assert (stated.clause, stated.policies) == ("G3.14", ("user-systems-are-separated",))
    assert (type(silent), silent.rule) == (InvalidRequest, "gbcs/user-unstated")
    assert (exempt.rule, exempt.clause) == ("gbcs/user-role", "G1.5")


def test_only_an_auditor_reads_the_entries_of_others(deployment: Deployment) -> None:
    with deployment.client() as supplier, deployment.client("elsewhere", retries=ONCE) as elsewhere:
        answer = supplier.sign(pre_command_request(10))
        index = answer.receipt.leaf_index
        assert json.loads(supplier.get_entry(index).entry)["request_id"] == answer.request_id
        for entry in (index, 0):
            with pytest.raises(NotPermitted) as refused:
                elsewhere.get_entry(entry)
            assert (refused.value.rule, refused.value.clause) == ("audit/not-auditor", "G2.26")
        # a proof shows hashes and nothing else
        assert elsewhere.prove_inclusion(index, index + 1).leaf_hash == answer.receipt.leaf_hash
    with deployment.client("auditor", retries=ONCE) as auditor:
        assert json.loads(auditor.get_entry(index).entry)["request_id"] == answer.request_id
        assert auditor.list_keys() == []
        assert _refusal(auditor, pre_command_request(11)).rule == "key/not-granted"


async def test_a_request_id_is_signed_once_over_all_workers(deployment: Deployment) -> None:
    same = [pre_command_request(100, request_id="same") for _ in range(24)]
    others = [pre_command_request(101 + number, request_id="other-bytes") for number in range(24)]
    async with deployment.async_client(connections=24, retries=ONCE) as client:
        answers = await asyncio.gather(*map(client.sign, same + others), return_exceptions=True)
        for asked, given in ((same, answers[:24]), (others, answers[24:])):
            (signed,) = [one for one in given if isinstance(one, crypto_pb2.SignResponse)]
            repeated = [one for one in given if isinstance(one, Repeated)]
            assert len(repeated) == 23, given
            assert {one.first_use.same_content for one in repeated} == {asked is same}
            # asked again, it is answered with the first receipt for ever
            with pytest.raises(Repeated) as again:
                await client.sign(asked[given.index(signed)])
            assert again.value.first_use.same_content
            assert again.value.first_use.receipt.leaf_index == signed.receipt.leaf_index
            assert again.value.first_use.receipt.leaf_hash == signed.receipt.leaf_hash
        # a counter that was signed is not signed over other bytes, whichever worker is asked
        turned = [_other_bytes(100, f"turned-{number}") for number in range(12)]
        refused = await asyncio.gather(*map(client.sign, turned), return_exceptions=True)
        assert {type(one) for one in refused} == {Conflict}
        assert {(one.rule, one.clause) for one in refused} == {("once/gbcs-counter", "G2.56")}
    log = await asyncio.to_thread(deployment.verified_log)
    uses = Counter(entry.fields["request_id"] for entry in log.uses())
    assert (uses["same"], uses["other-bytes"]) == (1, 1)
    refusing = {entry.fields["worker"] for entry in log.of_kind("refusal")}
    assert len(refusing) > 1, "more than one worker was asked"


async def test_explain_says_what_sign_then_does(deployment: Deployment) -> None:
    fine = pre_command_request(300)
    asked = [
        fine,
        pre_command_request(301, key_id=OTHER_KEY),
        _changed(pre_command_request(302), service_reference_variant="7.1"),
        _changed(pre_command_request(303), user_role="GS"),
        _changed(pre_command_request(304), user_id=str(precommands.DEVICE)),
        _changed(pre_command_request(305), gbcs_pre_command=fine.gbcs_pre_command[:-2]),
        _changed(pre_command_request(306), gbcs_pre_command=b"\xdf" + bytes(31)),
        request(KEY, duis_document=b"<Request/>" + b" " * 90, request_id="no-document"),
        request(KEY, tbs_certificate=fine.gbcs_pre_command, request_id="no-certificate"),
        _changed(pre_command_request(307), supply_sensitive_check=b"{}"),
        _changed(pre_command_request(308), request_id=fine.request_id),
        _other_bytes(300, "other bytes under a counter"),
        pre_command_request(300),  # the same bytes again are the same command
    ]
    permitted = 0
    async with deployment.async_client(retries=ONCE) as client:
        for one in asked:
            foreseen = await _explained(client, one)
            try:
                done: CallError | None = None
                await client.sign(one)
            except CallError as error:
                done = error
            permitted += done is None
            assert foreseen == ("" if done is None else f"{type(done).__name__} {done.rule} {done.clause}"), (
                one
            )
    assert permitted == 2


async def test_a_caller_revoked_in_mid_stream_signs_nothing_more(deployment: Deployment) -> None:
    answers: list[object] = []

    async def requests() -> AsyncIterator[crypto_pb2.SignRequest]:
        for number in range(400, 500):
            yield pre_command_request(number, request_id=f"leaving-{number}")
            if number == 420:
                await asyncio.to_thread(_revoke, deployment, "leaving")
            await asyncio.sleep(0.01)

    async def listen(client: AsyncClient) -> None:
        async for outcome in client.sign_stream(requests(), frame_items=1):
            answers.append(outcome)  # noqa: PERF401  # what came before the stream broke off is wanted

    async with deployment.async_client("leaving", retries=ONCE) as client:
        with pytest.raises((Unidentified, Unreachable)):  # asyncio's gRPC may lose the reason of a stream
            await listen(client)
        with pytest.raises(Unidentified) as refused:
            await client.sign(pre_command_request(600))
        assert (refused.value.rule, refused.value.code) == ("caller/revoked", grpc.StatusCode.UNAUTHENTICATED)
    signed = [one for one in answers if isinstance(one, crypto_pb2.SignResponse)]
    assert 1 <= len(signed) <= 21, "nothing that was sent after the revocation was signed"
    log = await asyncio.to_thread(deployment.verified_log)
    last = max(entry.leaf_index for entry in log.uses() if entry.fields["request_id"].startswith("leaving-"))
    change = max(entry.leaf_index for entry in log.of_kind("caller-record"))
    assert last < change
    rules = {entry.fields["rule"] for entry in log.entries[change:] if entry.fields["kind"] == "refusal"}
    assert "caller/revoked" in rules


def _refusal(client, asked: crypto_pb2.SignRequest) -> CallError:
    with pytest.raises(CallError) as refused:
        client.sign(asked)
    assert refused.value.receipt is not None
    return refused.value


async def _explained(client: AsyncClient, asked: crypto_pb2.SignRequest) -> str:
    """What Sign would refuse with, empty where it would sign."""
    try:
        answer = await client.explain(asked)
    except CallError as error:
        return f"{type(error).__name__} {error.rule} {error.clause}"
    if answer.permitted:
        return ""
    error = from_status(answer.refusal)
    assert answer.clause == error.clause
    return f"{type(error).__name__} {error.rule} {error.clause}"


def _changed(asked: crypto_pb2.SignRequest, **fields: object) -> crypto_pb2.SignRequest:
    for name, value in fields.items():
        setattr(asked, name, value)
    return asked


def _other_bytes(counter: int, request_id: str) -> crypto_pb2.SignRequest:
    """ECS44 (arm supply) where `pre_command_request` has ECS43 (disable supply)."""
    message = precommands.ecs44(counter=counter)
    asked = pre_command_request(counter, request_id=request_id)
    return _changed(asked, gbcs_pre_command=message, service_reference_variant="7.3")


def _revoke(deployment: Deployment, caller: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "tests.store_administrator", str(deployment.config), caller, "revoked"],
        env=deployment.process_environment,
        cwd=REPOSITORY,
        input=b"\n",
        capture_output=True,
        timeout=60,
        check=True,
    )
