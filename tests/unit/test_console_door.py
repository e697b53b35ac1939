"""Who may look into the console: this machine's browser, by the address that was printed, and nobody else."""

import http.client
import re
import socket
from http import HTTPStatus
from urllib.parse import urlsplit

import orjson
import pytest

from cryptosvc.cli.browser.door import HEADERS, POLICY, Door, Given, Knock
from cryptosvc.cli.browser.loopback import Loopback
from cryptosvc.core.errors import Unavailable
from tests.console_stand import MemoryViews, served

HERE = "127.0.0.1:8080"


def knock(target: str, method: str = "GET", **headers: str) -> Knock:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Knock(method, target, {"host": HERE, **named})


def begun(door: Door) -> tuple[str, str]:
    """Open the address as a browser does; cookie and secret."""
    given = door.answer(knock(door.address.removeprefix(f"http://{HERE}")))
    assert given.status is HTTPStatus.SEE_OTHER
    cookie = given.headers["Set-Cookie"].partition(";")[0]
    return cookie, given.headers["Location"].removeprefix("/#secret=")


@pytest.fixture
def door() -> Door:
    return Door(HERE, MemoryViews())


def test_the_address_works_once_and_gives_a_cookie_scripts_and_sites_cannot_use(door: Door) -> None:
    target = door.address.removeprefix(f"http://{HERE}")
    given = door.answer(knock(target))
    attributes = given.headers["Set-Cookie"].split("; ")[1:]
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Strict"]
    again = door.answer(knock(target))
    assert again.status is HTTPStatus.FORBIDDEN
    assert again.headers == {}
    token = target.partition("token=")[2]
    assert len(token) >= 43
    assert token not in given.headers["Location"] + given.headers["Set-Cookie"]


@pytest.mark.parametrize("target", ["/begin", "/begin?token=", "/begin?token=x", "/begin?Token=x&token=x"])
def test_a_wrong_token_opens_nothing_and_uses_nothing_up(door: Door, target: str) -> None:
    assert door.answer(knock(target)).status is HTTPStatus.FORBIDDEN
    assert begun(door)


def test_who_came_in_is_shown_pages_and_the_log(door: Door) -> None:
    cookie, secret = begun(door)
    page = door.answer(knock("/", cookie=cookie))
    assert (page.status, page.kind) == (HTTPStatus.OK, "text/html; charset=utf-8")
    for name in re.findall(rb'(?:src|href)="(/[\w.]+)"', page.body):
        assert door.answer(knock(name.decode(), cookie=cookie)).status is HTTPStatus.OK
    about = door.answer(
        knock("/api/about", cookie=cookie, x_console_secret=secret, sec_fetch_site="same-origin")
    )
    assert orjson.loads(about.body)["target"] == "memory"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"host": "rebound.example:8080"}, HTTPStatus.MISDIRECTED_REQUEST),
        ({"host": "localhost:8080"}, HTTPStatus.MISDIRECTED_REQUEST),
        ({"host": "127.0.0.1"}, HTTPStatus.MISDIRECTED_REQUEST),
        ({"host": "127.0.0.1:8080, rebound.example"}, HTTPStatus.MISDIRECTED_REQUEST),
        ({"host": ""}, HTTPStatus.MISDIRECTED_REQUEST),
        ({"sec-fetch-site": "cross-site"}, HTTPStatus.FORBIDDEN),
        ({"sec-fetch-site": "same-site"}, HTTPStatus.FORBIDDEN),
        ({"cookie": ""}, HTTPStatus.FORBIDDEN),
        ({"cookie": "cryptosvc-console=guess"}, HTTPStatus.FORBIDDEN),
        ({"cookie": "cryptosvc-console=\u00e9"}, HTTPStatus.FORBIDDEN),
        ({"x-console-secret": ""}, HTTPStatus.FORBIDDEN),
        ({"x-console-secret": "guess"}, HTTPStatus.FORBIDDEN),
    ],
)
def test_whoever_lacks_one_thing_is_turned_away(
    door: Door, change: dict[str, str], status: HTTPStatus
) -> None:
    cookie, secret = begun(door)
    headers = {"host": HERE, "cookie": cookie, "x-console-secret": secret, "sec-fetch-site": "same-origin"}
    assert door.answer(Knock("GET", "/api/about", headers)).status is HTTPStatus.OK
    given = door.answer(Knock("GET", "/api/about", headers | change))
    assert given.status is status
    assert b"memory" not in given.body


def test_another_s_cookie_beside_ours_lets_nobody_in(door: Door) -> None:
    cookie, _ = begun(door)
    assert door.answer(knock("/", cookie=f"other=1; {cookie}")).status is HTTPStatus.OK
    assert door.answer(knock("/", cookie=f"cryptosvc-console=x; {cookie}")).status is HTTPStatus.FORBIDDEN


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD", "TRACE"])
def test_nothing_but_a_look_is_possible(door: Door, method: str) -> None:
    cookie, secret = begun(door)
    given = door.answer(knock("/api/query", method, cookie=cookie, x_console_secret=secret))
    assert (given.status, given.headers) == (HTTPStatus.METHOD_NOT_ALLOWED, {"Allow": "GET"})


@pytest.mark.parametrize(
    "path", ["/report.css", "/../door.py", "/console.html", "/%2e%2e/door.py", "//", "/api"]
)
def test_no_other_file_is_given_out(door: Door, path: str) -> None:
    cookie, secret = begun(door)
    assert door.answer(knock(path, cookie=cookie, x_console_secret=secret)).status is HTTPStatus.NOT_FOUND


@pytest.mark.parametrize(
    ("target", "field"),
    [
        ("/api/nothing", "path"),
        ("/api/query?where=key", "where"),
        ("/api/query?where=key%3D", "where"),
        ("/api/query?start=-1", "start"),
        ("/api/query?stop=99999999999999999999", "stop"),
        ("/api/query?start=%D9%A1", "start"),
        ("/api/query?cursor=a&cursor=b", "cursor"),
        ("/api/query?drop=1", "drop"),
        ("/api/query?x", "query"),
        ("/api/query?" + "where=key%3Dk&" * 65, "query"),
        ("/api/entry?index=1.5", "index"),
        ("/api/about?x=1", "x"),
    ],
)
def test_what_is_asked_in_no_form_is_named(door: Door, target: str, field: str) -> None:
    cookie, secret = begun(door)
    given = door.answer(knock(target, cookie=cookie, x_console_secret=secret))
    assert given.status is HTTPStatus.BAD_REQUEST
    assert orjson.loads(given.body)["error"]["field"] == field


def test_a_refusal_of_the_service_is_passed_on(door: Door) -> None:
    cookie, secret = begun(door)
    given = door.answer(knock("/api/query?where=approver%3Dx", cookie=cookie, x_console_secret=secret))
    assert given.status is HTTPStatus.FORBIDDEN
    assert orjson.loads(given.body)["error"]["clause"] == "G2.26"


def test_a_question_reaches_the_service_as_it_was_asked() -> None:
    views = MemoryViews()
    door = Door(HERE, views)
    cookie, secret = begun(door)
    target = "/api/query?where=key%3Dkey-1&where=key%3Da%3Db&where=outcome%3Dsigned&start=5&stop=7&oldest=1"
    assert door.answer(knock(target, cookie=cookie, x_console_secret=secret)).status is HTTPStatus.OK
    (asked,) = views.asked
    assert asked.conditions == {"key": ["key-1", "a=b"], "outcome": ["signed"]}
    assert (asked.start, asked.stop, asked.oldest_first, asked.limit) == (5, 7, True, 50)


class Broken(MemoryViews):
    def about(self) -> Given:  # type: ignore[override]  # it never gives anything
        raise RuntimeError("with a secret in it")


def test_every_answer_on_the_wire_forbids_all_else_and_is_on_loopback_only() -> None:
    with served(Broken()) as address:
        where = urlsplit(address)
        assert where.hostname == "127.0.0.1"
        assert where.port
        for method, target, status in (
            ("GET", "/", 403),
            ("POST", "/api/query", 405),
            ("GET", f"/begin?{where.query}", 303),
            ("HEAD", "/", 405),
        ):
            connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
            connection.request(method, target)
            answer = connection.getresponse()
            assert answer.status == status
            assert {name: answer.headers[name] for name in HEADERS} == dict(HEADERS)
            assert "Python" not in answer.headers["Server"]
            if status == 303:
                cookie = answer.headers["Set-Cookie"].partition(";")[0]
                secret = answer.headers["Location"].partition("secret=")[2]
            connection.close()
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=10)
        connection.request("GET", "/api/about", headers={"Cookie": cookie, "X-Console-Secret": secret})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (500, b"A fault of ours.\n")
        connection.close()
        elsewhere = socket.socket()
        elsewhere.settimeout(5)
        assert elsewhere.connect_ex(("127.0.0.2", where.port)) != 0
        elsewhere.close()


def test_a_port_that_is_taken_is_said_so() -> None:
    with served(MemoryViews()) as address, pytest.raises(Unavailable) as caught:
        Loopback(MemoryViews(), urlsplit(address).port or 0)
    assert caught.value.rule == "console/port"


def test_a_second_request_behind_the_first_is_not_read() -> None:
    with served(MemoryViews()) as address:
        where = urlsplit(address)
        with socket.create_connection((where.hostname, where.port), timeout=10) as raw:
            host = f"Host: {where.netloc}\r\n"
            raw.sendall(
                f"GET / HTTP/1.1\r\n{host}Content-Length: 50\r\n\r\nGET /begin?{where.query} HTTP/1.1\r\n{host}\r\n".encode()
            )
            octets = b""
            while some := raw.recv(65536):
                octets += some
        assert octets.count(b"HTTP/1.") == 1
        assert b" 403 " in octets


def test_the_policy_lets_a_page_use_what_is_its_own_and_nothing_inline() -> None:
    rules = dict(one.strip().partition(" ")[::2] for one in POLICY.split(";"))
    assert rules["default-src"] == "'none'"
    assert rules["script-src"] == "'self'"
    assert "unsafe" not in POLICY
    assert rules["frame-ancestors"] == "'none'"
