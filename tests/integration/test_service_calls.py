"""Every call over a real server with mutual TLS, as callers see it."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from cryptosvc.client import errors
from cryptosvc.client.asynchronous import AsyncClient
from cryptosvc.client.messages import request
from cryptosvc.client.retries import Retries
from cryptosvc.core.check import verify_p256
from cryptosvc.core.errors import Busy, Unavailable
from cryptosvc.core.registry import CallerState
from cryptosvc.pb.v1 import crypto_pb2
from cryptosvc.service.limits import Limits
from tests.pki import Authority
from tests.service_stand import ERRORS, Stand, caller_record, key_record, stand

TBS = b"\x30\x82" + b"t" * 300
ONCE = Retries(attempts=1)


@pytest.fixture
async def service() -> AsyncIterator[Stand]:
    async with stand(Limits(page_items=2, batch_items=8)) as running:
        yield running


@pytest.fixture
async def client(service: Stand) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(service.target(), retries=ONCE) as calling:
        yield calling


async def test_a_signature_comes_with_artefact_receipt_and_clause(service: Stand, client: AsyncClient):
    answer = await client.sign(request("key-1", tbs_certificate=TBS, request_id="r-1"))
    verify_p256(key_record("key-1", service.key).public_point, answer.signature, TBS)
    assert (answer.request_id, answer.artefact, answer.clause, answer.key_version) == (
        "r-1",
        b"signed:" + TBS,
        "G2.61(a)",
        3,
    )
    assert answer.receipt.leaf_index == 0
    assert answer.receipt.recorded_at.ToNanoseconds() == 1_700_000_000_123_456_789


@pytest.mark.parametrize("key_id", ERRORS)
async def test_an_item_that_is_refused_is_the_status_of_the_unary_call(client: AsyncClient, key_id: str):
    with pytest.raises(errors.CallError) as caught:
        await client.sign(request(key_id, tbs_certificate=TBS))
    assert (caught.value.rule, caught.value.clause) == (ERRORS[key_id].rule, ERRORS[key_id].clause)
    assert caught.value.receipt is not None


async def test_a_batch_answers_each_item_in_order(service: Stand, client: AsyncClient):
    requests = [
        request("key-1", tbs_certificate=TBS, request_id="a"),
        request("forbidden", tbs_certificate=TBS, request_id="b"),
        crypto_pb2.SignRequest(request_id="c", key_id="key-1"),
        request("key-1", gbcs_pre_command=TBS, request_id="d"),
    ]
    one, two, three, four = await client.sign_batch(requests)
    assert isinstance(one, crypto_pb2.SignResponse)
    assert one.request_id == "a"
    assert isinstance(two, errors.NotPermitted)
    assert two.policies == ("p1", "p2")
    assert isinstance(three, errors.InvalidRequest)
    assert three.rule == "request/no-content"
    assert three.receipt is not None
    assert isinstance(four, crypto_pb2.SignResponse)
    assert four.request_id == "d"
    assert service.signer.batches == [3]
    assert [refusal.error.rule for refusal in service.ledger.refusals()] == ["request/no-content"]


@pytest.mark.parametrize("items", [0, 9])
async def test_a_batch_out_of_bounds_is_refused_as_a_whole_and_recorded(
    service: Stand, client: AsyncClient, items: int
):
    with pytest.raises(errors.InvalidRequest) as caught:
        await client.sign_batch([request("key-1", tbs_certificate=TBS) for _ in range(items)])
    assert caught.value.rule == "request/batch-size"
    assert caught.value.receipt is not None
    assert service.signer.batches == []


async def test_a_repeated_request_id_raises_with_the_first_receipt(client: AsyncClient):
    question = request("key-1", tbs_certificate=TBS)
    first = await client.sign(question)
    with pytest.raises(errors.Repeated) as caught:
        await client.sign(question)
    assert caught.value.code is grpc.StatusCode.ABORTED
    assert caught.value.first_use is not None
    assert caught.value.first_use.same_content
    assert caught.value.first_use.receipt.leaf_hash == first.receipt.leaf_hash


async def test_a_stream_answers_in_order_whatever_the_frames(client: AsyncClient):
    async def some() -> AsyncIterator[crypto_pb2.SignRequest]:
        for number in range(50):
            yield request(
                "forbidden" if number % 7 == 3 else "key-1", tbs_certificate=TBS, request_id=f"s-{number}"
            )
            if number % 11 == 0:
                await asyncio.sleep(0.01)

    outcomes = [outcome async for outcome in client.sign_stream(some())]
    assert len(outcomes) == 50
    for number, outcome in enumerate(outcomes):
        if number % 7 == 3:
            assert isinstance(outcome, errors.NotPermitted)
        else:
            assert isinstance(outcome, crypto_pb2.SignResponse)
            assert outcome.request_id == f"s-{number}"


async def test_a_stream_goes_on_past_items_that_cannot_be_read_or_done(service: Stand, client: AsyncClient):
    service.signer.whole_batch_error = [Unavailable("module gone", rule="hsm/gone")]
    requests = [request("key-1", tbs_certificate=TBS), crypto_pb2.SignRequest(request_id="x")]
    outcomes = [outcome async for outcome in client.sign_stream(requests, frame_items=1)]
    assert [type(outcome) for outcome in outcomes] == [errors.Unavailable, errors.InvalidRequest]


async def test_a_stream_ends_where_its_caller_is_revoked(service: Stand, client: AsyncClient):
    record = caller_record("client", service.client)
    answered: asyncio.Queue[object] = asyncio.Queue()

    async def requests() -> AsyncIterator[crypto_pb2.SignRequest]:
        yield request("key-1", tbs_certificate=TBS)
        await answered.get()
        # a record that only changed is no reason to end
        service.keys.callers[record.certificate_sha256] = replace(record, version=2)
        yield request("key-1", tbs_certificate=TBS)
        await answered.get()
        service.keys.callers[record.certificate_sha256] = replace(
            record, version=3, state=CallerState.REVOKED
        )
        yield request("key-1", tbs_certificate=TBS)

    signed = []

    async def reading() -> None:
        async for outcome in client.sign_stream(requests(), frame_items=1):
            signed.append(outcome)
            answered.put_nowait(outcome)

    with pytest.raises(errors.Unidentified) as refused:
        await reading()
    assert (refused.value.rule, refused.value.clause) == ("caller/revoked", "G2.1")
    assert [type(one) for one in signed] == [crypto_pb2.SignResponse] * 2
    assert sum(service.signer.batches) == 2
    assert [one.error.rule for one in service.ledger.refusals()] == ["caller/revoked"]


async def test_explain_says_yes_with_facts_and_no_with_the_reason(client: AsyncClient):
    yes = await client.explain(request("key-1", tbs_certificate=TBS))
    assert (yes.permitted, yes.content_kind, dict(yes.facts)) == (
        True,
        "organisation-certificate",
        {"serial": "1"},
    )
    assert (yes.clause, list(yes.policies), yes.receipt.leaf_index) == ("G2.61(a)", ["may-sign"], 0)
    no = await client.explain(request("forbidden", tbs_certificate=TBS))
    assert not no.permitted
    assert no.clause == "G2.60"
    assert isinstance(errors.from_status(no.refusal), errors.NotPermitted)


async def test_keys_are_listed_in_pages_and_shown(service: Stand, client: AsyncClient):
    assert [key.key_id for key in await client.list_keys()] == ["key-1", "key-2", "key-3"]
    assert len(service.ledger.observed("read")) == 2
    key = await client.get_key("key-2")
    assert (key.key_class, key.state, key.version) == ("issuing-oca", "active", 3)
    assert key.may_sign == ["certification-request", "organisation-certificate", "organisation-crl"]
    assert not key.HasField("remote_party_role")
    with pytest.raises(errors.NotPermitted):
        await client.get_key("key-9")
    with pytest.raises(errors.InvalidRequest):
        await client.get_key("key/9")


async def test_auditors_get_checkpoint_entries_and_proofs(client: AsyncClient):
    await client.sign(request("key-1", tbs_certificate=TBS))
    assert await client.get_checkpoint() == b"a note\n"
    assert (await client.get_entry(0)).entry == b'{"n":0}'
    proof = await client.prove_inclusion(0, 1)
    assert (proof.leaf_index, proof.tree_size, len(proof.leaf_hash), len(proof.hashes[0])) == (0, 1, 32, 32)
    assert len((await client.prove_consistency(1, 2)).hashes) == 1
    with pytest.raises(errors.InvalidRequest):
        await client.get_entry(10_000)
    with pytest.raises(errors.InvalidRequest):
        await client.get_entry(2**63)


async def test_what_is_no_message_is_malformed_and_recorded(service: Stand):
    target = service.target()
    async with grpc.aio.secure_channel(target.address, target.credentials()) as channel:
        for method in (
            "CryptoService/Sign",
            "CryptoService/SignBatch",
            "KeyService/ListKeys",
            "AuditService/GetEntry",
        ):
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await channel.unary_unary(f"/cryptosvc.v1.{method}")(b"\xff\xff\xff")
            assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert [refusal.error.rule for refusal in service.ledger.refusals()] == ["request/proto"] * 4


async def test_a_fault_of_ours_is_internal_and_says_nothing(client: AsyncClient):
    with pytest.raises(errors.Fault) as caught:
        await client.sign(request("bug", tbs_certificate=TBS))
    assert "secret" not in str(caught.value)


async def test_an_unknown_or_revoked_caller_is_unauthenticated_and_recorded(service: Stand):
    stranger, revoked = service.authority.client("stranger"), service.authority.client("revoked")
    service.keys.callers[revoked.sha256] = caller_record("revoked", revoked, state=CallerState.REVOKED)
    for identity, rule in ((stranger, "caller/unknown"), (revoked, "caller/revoked")):
        async with AsyncClient(service.target(identity), retries=ONCE) as client:
            with pytest.raises(errors.Unidentified) as caught:
                await client.sign(request("key-1", tbs_certificate=TBS))
            assert caught.value.rule == rule
            with pytest.raises(errors.Unidentified):
                async for _ in client.sign_stream([request("key-1", tbs_certificate=TBS)]):
                    pass
    assert len(service.ledger.refusals()) == 4


async def test_no_log_no_answer(service: Stand, client: AsyncClient):
    service.ledger.failing = Unavailable("the log cannot be written", rule="store/gone")
    with pytest.raises(errors.Unavailable):
        await client.list_keys()
    with pytest.raises(errors.Unavailable):
        await client.sign(crypto_pb2.SignRequest(request_id="x"))


async def test_another_authority_s_server_is_not_spoken_to(service: Stand):
    target = service.target()
    wrong = type(target)(
        target.address,
        Authority("other").certificate,
        target.certificate_chain,
        target.private_key,
        connections=1,
    )
    async with AsyncClient(wrong, retries=ONCE, seconds=3.0) as client:
        with pytest.raises(errors.Unreachable):
            await client.list_keys()
    assert service.ledger.recorded == []


async def test_health_follows_the_parts_each_service_needs(service: Stand):
    target = service.target()
    async with grpc.aio.secure_channel(target.address, target.credentials()) as channel:
        check = channel.unary_unary(
            "/grpc.health.v1.Health/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )

        async def serving() -> dict[str, bool]:
            await service.server.probe.once()
            names = ("", "cryptosvc.v1.CryptoService", "cryptosvc.v1.KeyService", "cryptosvc.v1.AuditService")
            return {
                name.rpartition(".")[2]: (await check(health_pb2.HealthCheckRequest(service=name))).status
                == 1
                for name in names
            }

        everything = {"": True, "CryptoService": True, "KeyService": True, "AuditService": True}
        assert await serving() == everything
        service.broken["module"] = Unavailable("gone", rule="hsm/gone")
        assert await serving() == everything | {"": False, "CryptoService": False}
        assert service.server.probe.failing == {"module": "hsm/gone"}
        service.broken["log"] = Busy("locked", rule="log/locked")
        assert not any((await serving()).values())
        service.broken.clear()
        assert await serving() == everything


async def test_reflection_names_every_service(service: Stand):
    target = service.target()
    async with grpc.aio.secure_channel(target.address, target.credentials()) as channel:
        call = channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            reflection_pb2.ServerReflectionRequest.SerializeToString,
            reflection_pb2.ServerReflectionResponse.FromString,
        )([reflection_pb2.ServerReflectionRequest(list_services="")])
        (answer,) = [message async for message in call]
    assert {found.name for found in answer.list_services_response.service} >= {
        "cryptosvc.v1.CryptoService",
        "cryptosvc.v1.KeyService",
        "cryptosvc.v1.AuditService",
        "grpc.health.v1.Health",
    }


async def test_metrics_count_calls_and_items(service: Stand, client: AsyncClient):
    await client.sign(request("key-1", tbs_certificate=TBS))
    with pytest.raises(errors.NotPermitted):
        await client.sign(request("forbidden", tbs_certificate=TBS))
    sample = service.registry.get_sample_value
    assert sample("cryptosvc_calls_total", {"method": "Sign", "code": "OK"}) == 1
    assert sample("cryptosvc_calls_total", {"method": "Sign", "code": "PERMISSION_DENIED"}) == 1
    assert sample("cryptosvc_items_total", {"outcome": "signed"}) == 1
    assert sample("cryptosvc_items_total", {"outcome": "forbidden"}) == 1
