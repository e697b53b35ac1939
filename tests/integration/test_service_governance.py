"""GovernanceService over gRPC and mutual TLS: every method, its errors as google.rpc details, and who may call it."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest, ServerReflectionResponse

from cryptosvc.client.asynchronous import AsyncClient
from cryptosvc.client.calls import Client
from cryptosvc.client.errors import AwaitingApproval, Conflict, InvalidRequest, NotPermitted, WrongState
from cryptosvc.client.governance import LIST, AsyncGovernance, Governance
from cryptosvc.core import statement as statements
from cryptosvc.core.errors import Unavailable
from cryptosvc.core.life import DAY
from cryptosvc.core.names import CallerId
from cryptosvc.core.registry import Grant
from cryptosvc.pb.v1 import governance_pb2 as pb
from tests import govern_stand, service_stand
from tests.governance import NOW, ORIGIN, POLICY_DIGEST
from tests.pki import Identity
from tests.service_stand import Stand, stand

GOVERN = Grant(operation="govern", key_class="*")


@dataclass
class Here:
    """A service, what it governs, and a caller that may hand in."""

    service: Stand
    governed: govern_stand.Stand
    client: AsyncClient
    calls: AsyncGovernance

    def register(self, name: str, *grants: Grant, auditor: bool = False) -> Identity:
        """One more caller."""
        identity = self.service.authority.client(name)
        record = service_stand.caller_record(name, identity)
        registered = replace(record, caller_id=CallerId(name), grants=grants, auditor=auditor)
        self.service.keys.callers[identity.sha256] = registered
        return identity


@asynccontextmanager
async def here() -> AsyncIterator[Here]:
    governed = await govern_stand.Stand().begin()
    async with stand(governed=governed) as service:
        made = Here(service, governed, AsyncClient(service.target()), AsyncGovernance(None))  # type: ignore[arg-type]  # set below
        await made.client.close()
        identity = made.register("office", GOVERN)
        async with AsyncClient(service.target(identity)) as client:
            made.client, made.calls = client, AsyncGovernance(client)
            yield made


async def test_a_proposal_goes_from_hand_to_record_over_the_wire():
    async with here() as at:
        statement = at.governed.statement("key.order", "key-1", **govern_stand.ORDER)
        proposed = await at.calls.propose(
            statements.emit(statement), at.governed.person("ada").endorse(statement)
        )
        assert proposed.proposal_id == statements.proposal_id(statement)
        assert (proposed.state, proposed.needed, proposed.counted) == ("open", 2, 0)
        assert proposed.sentence == ("Order a new command-signing key key-1, to be generated on module soft.")
        assert list(proposed.roles) == ["key-custodian"]
        assert proposed.statement == statements.emit(statement)
        assert proposed.expires_at.seconds == statement.expires_at
        with pytest.raises(AwaitingApproval) as awaited:
            await at.calls.execute(proposed.proposal_id)
        assert awaited.value.code is grpc.StatusCode.FAILED_PRECONDITION
        assert (awaited.value.rule, awaited.value.clause) == ("quorum/incomplete", "G5.13(b)")
        assert "0 of 2 approvals" in awaited.value.message
        for count, name in enumerate(("ben", "cat"), 1):
            envelope = at.governed.person(name).endorse(statement)
            approved = await at.calls.approve(proposed.proposal_id, envelope)
            assert approved.counted == count
        ended = await at.calls.execute(proposed.proposal_id)
        assert ended.proposal.state == "done"
        assert [one.custodian_id for one in ended.proposal.endorsements] == ["ada", "ben", "cat"]
        (record,) = ended.records
        assert (record.kind, json.loads(record.document)["state"]) == ("key-record", "ordered")
        assert [one.leaf_index for one in ended.receipts] == [
            len(at.governed.ledger.leaves) - 3,
            len(at.governed.ledger.leaves) - 2,
        ]
        shown = await at.calls.proposal(proposed.proposal_id)
        assert shown.state == "done"
        assert dict(shown.outcome)["needed_people"] == "2"


async def test_errors_come_as_statuses_with_their_rule():
    async with here() as at:
        statement = at.governed.statement("key.order", "key-1", **govern_stand.ORDER)
        octets, envelope = statements.emit(statement), at.governed.person("ada").endorse(statement)
        await at.calls.propose(octets, envelope)
        name = statements.proposal_id(statement)
        for call, kind, rule in (
            (at.calls.propose(octets, envelope), Conflict, "proposal/repeated"),
            (at.calls.propose(b"{}", envelope), InvalidRequest, "statement/form"),
            (at.calls.approve(name, envelope), NotPermitted, "quorum/self-approval"),
            (at.calls.approve(name, b"x"), InvalidRequest, "dsse/json"),
            (at.calls.approve("0" * 64, envelope), InvalidRequest, "proposal/unknown"),
            (at.calls.withdraw(name, envelope, "no"), NotPermitted, "quorum/other-statement"),
            (at.calls.proposals("finished"), InvalidRequest, "request/state"),
            (at.calls.records("person-record"), InvalidRequest, "registry/kind"),
        ):
            with pytest.raises(kind) as refused:
                await call
            assert refused.value.rule == rule
        await at.governed.ordered("key-2")
        resume = at.governed.statement("key.resume", "key-2")
        with pytest.raises(WrongState) as wrong:
            await at.calls.propose(statements.emit(resume), at.governed.person("ada").endorse(resume))
        assert wrong.value.rule == "lifecycle/event"
        withdrawn = await at.calls.withdraw(name, at.governed.person("ada").withdraw(name, "typo"), "typo")
        assert (withdrawn.state, dict(withdrawn.outcome)) == ("withdrawn", {"reason": "typo"})


async def test_what_is_not_a_message_is_refused_and_recorded():
    async with here() as at, grpc_channel(at) as channel:
        call = channel.unary_unary("/cryptosvc.v1.GovernanceService/Propose", None, None)
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"\xff\xff")
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        (record,) = at.service.ledger.refusals()
        assert (record.operation, record.error.rule) == ("govern", "request/proto")


@asynccontextmanager
async def grpc_channel(at: Here) -> AsyncIterator[grpc.aio.Channel]:
    identity = at.register("raw", GOVERN)
    credentials = grpc.ssl_channel_credentials(
        at.service.authority.certificate, identity.key, identity.certificate
    )
    async with grpc.aio.secure_channel(f"localhost:{at.service.server.port}", credentials) as channel:
        yield channel


async def test_registers_are_read_by_who_governs_and_by_auditors_and_by_nobody_else():
    async with here() as at:
        await at.governed.active("key-1")
        auditor, caller = at.register("auditor", auditor=True), at.register("caller")
        async with AsyncClient(at.service.target(auditor)) as client:
            calls = AsyncGovernance(client)
            assert [
                json.loads(one.document)["custodian_id"] for one in await calls.records("custodian-record")
            ] == [
                "ada",
                "ben",
                "cat",
                "dan",
                "eve",
            ]
            assert len(await calls.proposals()) == 3
            assert len(await calls.proposals("open")) == 0
            statement = at.governed.statement("key.suspend", "key-1")
            with pytest.raises(NotPermitted) as refused:
                await calls.propose(statements.emit(statement), at.governed.person("ada").endorse(statement))
            assert refused.value.rule == "caller/not-granted"
        async with AsyncClient(at.service.target(caller)) as client:
            calls = AsyncGovernance(client)
            for call in (
                calls.records("key-record"),
                calls.proposals(),
                calls.proposal("0" * 64),
                calls.due(),
                calls.setting(),
            ):
                with pytest.raises(NotPermitted):
                    await call


async def test_what_is_due_comes_soonest_first():
    async with here() as at:
        for name, days in (("key-1", 30), ("key-2", 20), ("key-3", 100)):
            await at.governed.ordered(name)
            await at.governed.carry("key.activate", name, until=NOW + days * DAY)
        assert [(one.key_id, one.event, one.rule) for one in await at.calls.due()] == [
            ("key-2", "deactivate", "schedule/deactivation-date"),
            ("key-1", "deactivate", "schedule/deactivation-date"),
        ]
        assert [one.key_id for one in await at.calls.due(100)] == ["key-2", "key-1", "key-3"]
        assert (await at.calls.due(100))[2].at.seconds == NOW + 100 * DAY


async def test_lists_come_in_pages_that_follow_each_other():
    async with here() as at:
        for number in range(5):
            statement = at.governed.statement("key.order", f"key-{number}", **govern_stand.ORDER)
            await at.governed.propose(statement)
            at.governed.later(1)
        subjects, token = [], ""
        while True:
            page = await at.client.call(LIST, pb.ListProposalsRequest(page_size=2, page_token=token))
            subjects += [statements.parse(one.statement).subject for one in page.proposals]
            token = page.next_page_token
            if not token:
                break
        assert subjects == [f"key-{number}" for number in reversed(range(5))]
        with pytest.raises(InvalidRequest) as refused:
            await at.client.call(LIST, pb.ListProposalsRequest(page_token="nowhere"))
        assert refused.value.rule == "request/page"


async def test_the_setting_is_what_a_statement_has_to_name():
    async with here() as at:
        found = await at.calls.setting()
        assert (found.system, found.environment, found.origin) == ("dcc-test", "test", ORIGIN)
        assert (found.policy_digest, found.longest_open_seconds) == (POLICY_DIGEST, 14 * DAY)


async def test_the_blocking_client_has_the_same_calls():
    async with here() as at:
        identity = at.register("blocking", GOVERN)
        statement = at.governed.statement("key.order", "key-1", **govern_stand.ORDER)

        def walk() -> list[str]:
            with Client(at.service.target(identity)) as client:
                calls = Governance(client)
                calls.propose(statements.emit(statement), at.governed.person("ada").endorse(statement))
                name = statements.proposal_id(statement)
                for approver in ("ben", "cat"):
                    calls.approve(name, at.governed.person(approver).endorse(statement))
                states = [calls.proposal(name).state, calls.execute(name).proposal.state]
                states += [one.state for one in calls.proposals()]
                states += [json.loads(one.document)["state"] for one in calls.records("key-record")]
                other = at.governed.statement("key.order", "key-2", **govern_stand.ORDER)
                calls.propose(statements.emit(other), at.governed.person("ada").endorse(other))
                second = statements.proposal_id(other)
                signed = at.governed.person("ada").withdraw(second, "no")
                states.append(calls.withdraw(second, signed, "no").state)
                assert calls.due() == []
                assert calls.setting().origin == ORIGIN
                return states

        assert await asyncio.to_thread(walk) == ["open", "done", "done", "ordered", "withdrawn"]


async def test_health_and_reflection_name_the_service():
    async with here() as at, grpc_channel(at) as channel:
        health = channel.unary_unary("/grpc.health.v1.Health/Check")
        answer = await health(
            HealthCheckRequest(service="cryptosvc.v1.GovernanceService").SerializeToString()
        )
        assert HealthCheckResponse.FromString(answer).status == HealthCheckResponse.SERVING
        listing = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        asked = ServerReflectionRequest(list_services="").SerializeToString()
        async for frame in listing(iter([asked])):
            found = ServerReflectionResponse.FromString(frame).list_services_response.service
            assert "cryptosvc.v1.GovernanceService" in {one.name for one in found}
            break
        at.service.broken["store"] = Unavailable("the store is away", rule="store/gone")
        await at.service.server.probe.once()
        answer = await health(
            HealthCheckRequest(service="cryptosvc.v1.GovernanceService").SerializeToString()
        )
        assert HealthCheckResponse.FromString(answer).status == HealthCheckResponse.NOT_SERVING


async def test_one_record_is_asked_for_by_its_id():
    async with here() as at:
        found = await at.calls.record("custodian-record", "ben")
        assert found is not None
        assert json.loads(found.document)["custodian_id"] == "ben"
        assert await at.calls.record("custodian-record", "nobody") is None
