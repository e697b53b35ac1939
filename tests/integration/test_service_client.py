"""What the client does by itself: retries that are safe, blocking calls, and keys for pyca's builders."""

import asyncio
import datetime as dt
import socket
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

import pytest
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed
from cryptography.x509.oid import NameOID

from cryptosvc.client import errors
from cryptosvc.client.asynchronous import AsyncClient
from cryptosvc.client.calls import Client
from cryptosvc.client.channels import Pool, Target
from cryptosvc.client.keys import RemotePrivateKey
from cryptosvc.client.messages import request
from cryptosvc.client.retries import Retries
from cryptosvc.core.errors import Busy, OutcomeUnknown, Unavailable
from cryptosvc.pb.v1 import crypto_pb2
from tests.pki import Authority
from tests.service_stand import Stand, stand, until

TBS = b"\x30\x82" + b"t" * 300
QUICK = Retries(attempts=4, first_seconds=0.01)
NAME = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, "07")])
T = TypeVar("T")


@pytest.fixture
async def service() -> AsyncIterator[Stand]:
    async with stand() as running:
        yield running


async def _blocking(service: Stand, work: Callable[[Client], T]) -> T:
    def run() -> T:
        with Client(service.target(), retries=QUICK) as client:
            return work(client)

    return await asyncio.to_thread(run)


@pytest.mark.parametrize("error", [Unavailable("gone", rule="hsm/gone"), Busy("full", rule="queue/full")])
async def test_what_was_not_done_is_asked_again_under_the_same_id(service: Stand, error: Exception):
    service.signer.whole_batch_error = [error, error]
    async with AsyncClient(service.target(), retries=QUICK) as client:
        answer = await client.sign(request("key-1", tbs_certificate=TBS, request_id="again"))
    assert answer.request_id == "again"
    assert len(service.signer.batches) == 3


async def test_retries_end(service: Stand):
    service.signer.whole_batch_error = [Busy("full", rule="queue/full")] * 9
    async with AsyncClient(service.target(), retries=QUICK) as client:
        with pytest.raises(errors.Busy):
            await client.sign(request("key-1", tbs_certificate=TBS))
    assert len(service.signer.batches) == QUICK.attempts


async def test_an_unknown_outcome_is_never_asked_again(service: Stand):
    service.signer.whole_batch_error = [OutcomeUnknown("lost", rule="record/unavailable")]
    async with AsyncClient(service.target(), retries=QUICK) as client:
        with pytest.raises(errors.OutcomeUnknown):
            await client.sign(request("key-1", tbs_certificate=TBS))
    assert len(service.signer.batches) == 1


async def test_only_the_items_of_a_batch_that_were_not_done_are_asked_again(service: Stand):
    async with AsyncClient(service.target(), retries=QUICK) as client:
        outcomes = await client.sign_batch(
            [
                request("key-1", tbs_certificate=TBS),
                request("busy", tbs_certificate=TBS),
                request("forbidden", tbs_certificate=TBS),
            ]
        )
    assert [type(outcome) for outcome in outcomes] == [
        crypto_pb2.SignResponse,
        errors.Busy,
        errors.NotPermitted,
    ]
    assert service.signer.batches == [3, 1, 1, 1]


async def test_a_dead_service_is_unreachable_within_the_time_given(service: Stand):
    target = service.target()
    await service.server.stop(0)
    async with AsyncClient(target, retries=QUICK, seconds=2.0) as client:
        with pytest.raises(errors.Unreachable):
            await client.list_keys()


async def test_time_runs_out_and_work_that_was_started_is_finished(service: Stand):
    service.signer.release.clear()
    async with AsyncClient(service.target(), retries=QUICK, seconds=0.3) as client:
        with pytest.raises(errors.TimedOut):
            await client.sign(request("key-1", tbs_certificate=TBS))
    service.signer.release.set()
    await until(lambda: bool(service.signer.finished))
    assert service.ledger.recorded[-1][0] == "signed"


async def test_blocking_calls(service: Stand):
    def work(client: Client) -> None:
        assert client.sign(request("key-1", tbs_certificate=TBS)).receipt.leaf_index == 0
        assert len(client.sign_batch([request("key-1", tbs_certificate=TBS) for _ in range(3)])) == 3
        requests = [request("key-1", tbs_certificate=TBS, request_id=f"s{n}") for n in range(100)]
        outcomes = list(client.sign_stream(requests))
        assert [outcome.request_id for outcome in outcomes] == [f"s{n}" for n in range(100)]
        assert client.explain(request("key-1", tbs_certificate=TBS)).permitted
        assert [key.key_id for key in client.list_keys()] == ["key-1", "key-2", "key-3"]
        assert client.get_entry(0).entry == b'{"n":0}'
        assert client.get_checkpoint() == b"a note\n"
        assert client.prove_inclusion(0, 1).hashes
        assert client.prove_consistency(1, 2).hashes
        with pytest.raises(errors.NotPermitted):
            client.sign(request("forbidden", tbs_certificate=TBS))

    await _blocking(service, work)


async def test_many_calls_spread_over_every_connection(service: Stand):
    service.signer.release.clear()
    async with AsyncClient(service.target(connections=8)) as client:
        calls = [asyncio.ensure_future(client.sign(request("key-1", tbs_certificate=TBS))) for _ in range(32)]
        await asyncio.sleep(0.3)
        service.signer.release.set()
        await asyncio.gather(*calls)
    counts = Counter(service.signer.peers)
    assert len(counts) == 8
    assert set(counts.values()) == {4}


def test_the_pool_gives_the_connection_with_the_fewest_calls():
    pool = Pool(["a", "b", "c"])
    taken = [pool.pick() for _ in range(4)]
    assert sorted(one.channel for one in taken[:3]) == ["a", "b", "c"]
    with taken[1]:
        pass
    assert pool.pick().channel == taken[1].channel


async def test_pyca_builds_a_certificate_with_a_remote_key(service: Stand):
    now = dt.datetime.now(dt.UTC)
    subject_key = ec.generate_private_key(ec.SECP256R1())

    def work(client: Client) -> x509.Certificate:
        key = RemotePrivateKey.of(client, "key-1")
        return (
            x509.CertificateBuilder()
            .subject_name(NAME)
            .issuer_name(NAME)
            .public_key(subject_key.public_key())
            .serial_number(5)
            .not_valid_before(now)
            .not_valid_after(now + dt.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )

    certificate = await _blocking(service, work)
    service.key.public_key().verify(
        certificate.signature, certificate.tbs_certificate_bytes, ec.ECDSA(hashes.SHA256())
    )


async def test_pyca_builds_a_revocation_list_and_a_certification_request_with_a_remote_key(service: Stand):
    now = dt.datetime.now(dt.UTC)

    def work(client: Client) -> tuple[x509.CertificateRevocationList, x509.CertificateSigningRequest]:
        key = RemotePrivateKey.of(client, "key-1")
        revoked = x509.RevokedCertificateBuilder().serial_number(9).revocation_date(now).build()
        crl = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(NAME)
            .last_update(now)
            .next_update(now + dt.timedelta(days=1))
            .add_revoked_certificate(revoked)
            .sign(key, hashes.SHA256())
        )
        csr = x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key, hashes.SHA256())
        return crl, csr

    crl, csr = await _blocking(service, work)
    assert crl.is_signature_valid(service.key.public_key())
    assert csr.is_signature_valid
    assert csr.public_key() == service.key.public_key()


async def test_a_remote_key_signs_nothing_it_was_not_shown_and_gives_nothing_away(service: Stand):
    def work(client: Client) -> None:
        key = RemotePrivateKey.of(client, "key-1")
        with pytest.raises(UnsupportedAlgorithm, match=r"G2\.60"):
            key.sign(b"\x00" * 32, ec.ECDSA(Prehashed(hashes.SHA256())))
        with pytest.raises(UnsupportedAlgorithm):
            key.sign(TBS, ec.ECDSA(hashes.SHA384()))
        for data in (b"", b"\x30", b"hello", b"\x30\x03\x02\x01\x02", b"\x30\x80"):
            with pytest.raises(ValueError, match="neither"):
                key.sign(data, ec.ECDSA(hashes.SHA256()))
        with pytest.raises(UnsupportedAlgorithm, match=r"G2\.44"):
            key.exchange(ec.ECDH(), key.public_key())
        with pytest.raises(UnsupportedAlgorithm):
            key.private_numbers()
        with pytest.raises(UnsupportedAlgorithm):
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )

    await _blocking(service, work)
    assert service.signer.batches == []


async def test_a_remote_key_raises_what_the_service_said(service: Stand):
    def work(client: Client) -> None:
        key = RemotePrivateKey(client, "forbidden", service.key.public_key())
        with pytest.raises(errors.NotPermitted) as caught:
            x509.CertificateSigningRequestBuilder().subject_name(NAME).sign(key, hashes.SHA256())
        assert caught.value.clause == "G2.60"

    await _blocking(service, work)


def test_a_slow_handshake_is_waited_for():
    """A busy machine takes long over TLS; the caller is not told that nobody is there while somebody is."""
    authority = Authority()
    caller = authority.client()
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        target = Target(
            f"127.0.0.1:{silent.getsockname()[1]}",
            authority.certificate,
            caller.certificate,
            caller.key,
            connections=1,
        )
        with (
            Client(target, retries=Retries(attempts=1), seconds=1.5) as client,
            pytest.raises(errors.TimedOut),
        ):
            client.list_keys()
