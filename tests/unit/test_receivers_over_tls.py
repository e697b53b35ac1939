"""Receivers over TLS: a webhook by https and syslog by RFC 5425, told only where their certificate is the one expected."""

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from cryptosvc.adapters.receivers import Syslog, Webhook
from cryptosvc.core.errors import Unavailable
from tests.pki import Authority
from tests.unit.test_watch_telling import an_alarm, form

SECONDS = 30.0
REPLY = b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n"


@contextmanager
def listening(folder: Path, authority: Authority, *, http: bool) -> Iterator[tuple[int, list[bytes]]]:
    """A TLS server on loopback; its port, and what each connection sent."""
    server = authority.server()
    (folder / "server.pem").write_bytes(server.certificate + server.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    got: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            plain, _ = listener.accept()
            with plain, suppress(OSError), context.wrap_socket(plain, server_side=True) as secured:
                octets = b""
                while part := secured.recv(65_536):
                    octets += part
                    if octets == b"end":
                        return
                    if http and octets.endswith(b"}"):
                        secured.sendall(REPLY)
                        break
                got.append(octets)

    thread = threading.Thread(target=serve)
    thread.start()
    port = listener.getsockname()[1]
    try:
        yield port, got
    finally:
        trusting = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        with socket.create_connection(("127.0.0.1", port), SECONDS) as last:
            secured = trusting.wrap_socket(last, server_hostname="127.0.0.1")
            secured.sendall(b"end")
            thread.join()
            secured.close()
        listener.close()


@pytest.fixture
def authorities(tmp_path: Path) -> tuple[Authority, Path, Path]:
    """An authority, its file, and the file of another."""
    ours, other = Authority(), Authority("another authority")
    (tmp_path / "ca.pem").write_bytes(ours.certificate)
    (tmp_path / "other.pem").write_bytes(other.certificate)
    return ours, tmp_path / "ca.pem", tmp_path / "other.pem"


def framed(octets: bytes) -> bytes:
    length, _, message = octets.partition(b" ")
    assert int(length) == len(message)
    return message


async def test_syslog_over_tls_is_framed_and_for_whom_it_is_meant(
    tmp_path: Path, authorities: tuple[Authority, Path, Path]
) -> None:
    ours, trusted, other = authorities
    with listening(tmp_path, ours, http=False) as (port, got):
        for authority in (other, None):
            with pytest.raises(Unavailable, match="SSLCertVerificationError"):
                await Syslog("127.0.0.1", port, "tls", form, SECONDS, authority).tell(an_alarm(), 9)
        await Syslog("127.0.0.1", port, "tls", form, SECONDS, trusted).tell(an_alarm(), 9)
        await Syslog("127.0.0.1", port, "tls", form, SECONDS, trusted).say("checkpoint", b"{}")
    told, said = [framed(one) for one in got]
    assert told.startswith(b"<107>1 2023-11-14T22:13:20Z ")
    assert json.loads(told[told.index(b"{") :])["class_uid"] == 2004
    assert said.endswith(b" cryptosvc - checkpoint - {}")


async def test_a_webhook_by_https_is_told_where_its_certificate_is_good(
    tmp_path: Path, authorities: tuple[Authority, Path, Path]
) -> None:
    ours, trusted, other = authorities
    with listening(tmp_path, ours, http=True) as (port, got):
        url = f"https://127.0.0.1:{port}/alarms"
        for authority in (other, None):
            with pytest.raises(Unavailable, match="SSLCertVerificationError"):
                await Webhook(url, form, "application/json", SECONDS, authority).tell(an_alarm(), 9)
        await Webhook(url, form, "application/json", SECONDS, trusted).tell(an_alarm(), 9)
    (request,) = got
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(b"POST /alarms HTTP/1.1\r\n")
    assert json.loads(body)["finding_info"]["title"] == "refused-purpose"


@pytest.mark.parametrize("octets", [None, b"no certificate"])
async def test_an_authority_that_cannot_be_read_is_said(tmp_path: Path, octets: bytes | None) -> None:
    path = tmp_path / "authority.pem"
    if octets is not None:
        path.write_bytes(octets)
    with pytest.raises(Unavailable) as refused:
        await Webhook("https://127.0.0.1:1/", form, "application/json", SECONDS, path).tell(an_alarm(), 9)
    assert refused.value.rule == "watch/authority"
