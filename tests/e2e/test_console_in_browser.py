"""The auditor's console in a real browser: questions, lives of keys, and proofs judged by the browser itself."""

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from selenium.webdriver.common.by import By

from cryptosvc.core.checkpoint import Note, NoteSignature, emit, key_id, parse, text
from cryptosvc.core.merkle import consistency_proof, inclusion_proof, leaf_hash, root_of
from tests.browser import Browser
from tests.console_stand import Console, MemoryViews, served, subtrees
from tests.report_stand import HOSTILE, HOSTILE_KEY, log, use
from tests.signed_logs import KEY, ORIGIN, SPKI, note

pytestmark = pytest.mark.xdist_group("browser")


@pytest.fixture
def views() -> MemoryViews:
    return MemoryViews()


@pytest.fixture
def console(browser: Browser, views: MemoryViews) -> Iterator[Console]:
    with served(views) as address:
        yield Console(browser, address)
        browser.open("about:blank")


def test_a_question_is_asked_and_answered_page_by_page(console: Console, views: MemoryViews):
    seen = console.seen
    assert console.wait("#about").startswith("example.test/log, key SHA-256 ")
    seen.driver.find_element(By.NAME, "value").send_keys("key-1, key-2")
    seen.driver.find_element(By.NAME, "to").send_keys("2026-10-26T15:00:00Z")
    seen.driver.find_element(By.CSS_SELECTOR, "button.first").click()
    console.wait("caption", "20 entries so far, of a log of 60")
    (asked,) = views.asked
    assert asked.conditions == {"key": ["key-1", "key-2"]}
    assert asked.stop == 1_793_026_800 * 10**9
    seen.driver.find_element(By.XPATH, "//button[text()='More']").click()
    console.wait("caption", "27 entries, of a log of 60")
    rows = console.rows("27 entries")
    assert [row[0] for row in rows] == sorted((row[0] for row in rows), key=lambda one: -int(one.split()[1]))
    assert {row[4] for row in rows} == {"key-1", "key-2"}
    assert seen.complaints() == []
    assert seen.barriers() == []


def test_the_life_of_a_key_is_drawn_and_told(console: Console):
    console.go("key?id=key-1")
    console.wait("h2", "Life")
    assert [row[2:] for row in console.rows("Changes")] == [
        ["1", "active", "proposal p-3", "2"],
        ["2", "suspended", "proposal p-20", "2"],
    ]
    assert ["gbcs-pre-command", "sign", "signed", "16"] in console.rows("Uses")
    assert console.rows("Refusals")[0][2:] == ["stranger", "caller/not-granted", "G2.56"]
    assert len(console.seen.each("svg.timeline circle.change")) == 2
    assert len(console.seen.each("svg.timeline circle.refusal")) == 1
    assert console.seen.complaints() == []
    assert console.seen.barriers() == []


def test_an_entry_is_proven_in_the_browser_and_its_decision_retold(console: Console):
    console.go("entry?index=5")
    words = console.wait("#verdict h2")
    assert words == "Verified in this browser: the entry is in the log"
    octets, _ = MemoryViews().entries[5]
    steps = [one.text for one in console.seen.each("#verdict li")]
    assert len(steps) == 6
    assert all(one.startswith("✓ ") for one in steps)
    assert steps[2].endswith(leaf_hash(octets).hex())
    console.wait("h2", "Why")
    assert "kept in the log; its 1 files have this digest" in console.seen.text("main")
    assert console.seen.complaints() == []
    assert console.seen.barriers() == []


IN_BROWSER = """
    const done = arguments[arguments.length - 1];
    import("/verify.js").then(async (verify) => {
      const octets = (text) => Uint8Array.from(text.match(/../g) ?? [], (two) => parseInt(two, 16));
      const hex = (found) => found && Array.from(found, (one) => one.toString(16).padStart(2, "0")).join("");
      const found = [];
      for (const one of arguments[0]) found.push(await (STEP));
      done(found);
    }).catch((error) => done(String(error)));
"""
DIGESTS = [leaf_hash(bytes([number])) for number in range(40)]


def test_every_entry_of_a_log_is_proven_whatever_its_size(console: Console):
    """The browser's reading of RFC 9162 agrees with ours on every leaf of trees of every shape."""
    step = "verify.rootOf(octets(one[0]), one[1], one[2], one[3].map(octets)).then(hex)"
    asked, expected = [], []
    for size in range(1, 41):
        for index in range(size):
            hashes = [one.hex() for one in inclusion_proof(index, size, subtrees(DIGESTS))]
            asked.append([DIGESTS[index].hex(), index, size, hashes])
            expected.append(root_of(DIGESTS[:size]).hex())
            asked.append([DIGESTS[index].hex(), index, size, [*hashes, "00" * 32]])
            expected.append(None)
    asked += [[DIGESTS[0].hex(), 1, 1, []], [DIGESTS[0].hex(), 0, 2, []], [DIGESTS[0].hex(), -1, 1, []]]
    expected += [None, None, None]
    script = IN_BROWSER.replace("STEP", step)
    assert console.seen.driver.execute_async_script(script, asked) == expected


def test_every_log_that_grew_is_seen_to_extend_what_it_was(console: Console):
    """And no other is: a fork in any leaf, a proof cut or lengthened, a log put back."""
    step = """verify.requireExtended({ size: one[0], root: octets(one[1]) }, { size: one[2], root: octets(one[3]) },
        one[4].map(octets)).then(() => "extends", (error) => error.message)"""
    asked, extends = [], []

    def ask(first: int, root: bytes, second: int, other: bytes, path: list[bytes], *, good: bool) -> None:
        asked.append([first, root.hex(), second, other.hex(), [one.hex() for one in path]])
        extends.append(good)

    for second in range(1, 25):
        whole = root_of(DIGESTS[:second])
        for first in range(1, second + 1):
            path = list(consistency_proof(first, second, subtrees(DIGESTS))) if first < second else []
            root = root_of(DIGESTS[:first])
            ask(first, root, second, whole, path, good=True)
            ask(first, root_of([*DIGESTS[: first - 1], bytes(32)]), second, whole, path, good=False)
            ask(first, root, second, root_of([*DIGESTS[: second - 1], bytes(32)]), path, good=False)
            ask(first, root, second, whole, [*path, bytes(32)], good=False)
            if path:
                ask(first, root, second, whole, path[:-1], good=False)
                ask(second, whole, first, root, path, good=False)
    answers = console.seen.driver.execute_async_script(IN_BROWSER.replace("STEP", step), asked)
    assert [one == "extends" for one in answers] == extends


def flipped(text: str, at: int) -> str:
    octets = bytearray(base64.b64decode(text))
    octets[at] ^= 1
    return base64.b64encode(octets).decode()


def edited_entry(evidence: dict[str, Any]) -> None:
    octets = base64.b64decode(evidence["entry"]).replace(b'"outcome":"signed"', b'"outcome":"denied"')
    evidence["entry"] = base64.b64encode(octets).decode()


def another_caller(evidence: dict[str, Any]) -> None:
    evidence["withheld"] = evidence["withheld"].replace("head-end-1", "head-end-2")


def a_value_nothing_commits_to(evidence: dict[str, Any]) -> None:
    evidence["withheld"] = evidence["withheld"].replace('"principal"', '"constructor"')


def proof_of_another(evidence: dict[str, Any]) -> None:
    evidence["hashes"] = evidence["hashes"][::-1]


def proof_cut(evidence: dict[str, Any]) -> None:
    evidence["hashes"] = evidence["hashes"][:-1]


def proof_withheld(evidence: dict[str, Any]) -> None:
    evidence["hashes"] = None


def edited_root(evidence: dict[str, Any]) -> None:
    lines = evidence["checkpoint"].split("\n")
    lines[2] = flipped(lines[2], 3)
    evidence["checkpoint"] = "\n".join(lines)


def edited_signature(evidence: dict[str, Any]) -> None:
    head, _, tail = evidence["checkpoint"].rpartition(" ")
    evidence["checkpoint"] = f"{head} {flipped(tail.strip(), 40)}\n"


def other_signer(evidence: dict[str, Any]) -> None:
    head, _, tail = evidence["checkpoint"].rpartition(" ")
    evidence["checkpoint"] = f"{head} {flipped(tail.strip(), 0)}\n"


def other_log(evidence: dict[str, Any]) -> None:
    evidence["checkpoint"] = evidence["checkpoint"].replace("example.test/log", "example.test/gol")


def smaller_log(evidence: dict[str, Any]) -> None:
    evidence["checkpoint"] = evidence["checkpoint"].replace("\n55\n", "\n54\n")


def signed_for_another_log(evidence: dict[str, Any]) -> None:
    found = replace(parse(evidence["checkpoint"].encode()).checkpoint, origin="other.test/log")
    signature = KEY.sign(text(found), ec.ECDSA(hashes.SHA256()))
    evidence["checkpoint"] = emit(Note(found, (NoteSignature(ORIGIN, key_id(SPKI), signature),))).decode()


def forked(evidence: dict[str, Any]) -> None:
    entries = log()
    entries[2] = use(2)
    digests = [leaf_hash(octets) for octets, _ in entries[:55]]
    evidence["checkpoint"] = note(entries[:55]).decode()
    evidence["hashes"] = [one.hex() for one in inclusion_proof(5, 55, subtrees(digests))]
    evidence["consistency"] = [one.hex() for one in consistency_proof(33, 55, subtrees(digests))]


def put_back(evidence: dict[str, Any]) -> None:
    digests = [leaf_hash(octets) for octets, _ in log()[:20]]
    evidence["checkpoint"] = note(log()[:20]).decode()
    evidence["hashes"] = [one.hex() for one in inclusion_proof(5, 20, subtrees(digests))]


def no_note(evidence: dict[str, Any]) -> None:
    evidence["checkpoint"] = "x"


@pytest.mark.parametrize(
    ("change", "step"),
    [
        (edited_entry, "is in the tree"),
        (another_caller, "is what it commits to"),
        (a_value_nothing_commits_to, "is what it commits to"),
        (proof_of_another, "is in the tree"),
        (proof_cut, "is in the tree"),
        (proof_withheld, "is in the tree"),
        (edited_root, "signed by its key"),
        (edited_signature, "signed by its key"),
        (other_signer, "signed by its key"),
        (other_log, "signed by its key"),
        (smaller_log, "signed by its key"),
        (signed_for_another_log, "signed by its key"),
        (forked, "It extends the checkpoint that was kept"),
        (put_back, "It extends the checkpoint that was kept"),
        (no_note, "signed by its key"),
    ],
)
def test_what_was_tampered_with_is_named_by_the_browser(
    console: Console, views: MemoryViews, change: Callable[[dict[str, Any]], None], step: str
):
    views.change = change
    console.go("entry?index=5")
    assert console.wait("#verdict h2") == "This does not verify: do not believe this entry"
    failed = [one.text for one in console.seen.each("#verdict li") if one.text.startswith("✗ ")]
    assert len(failed) == 1
    assert step in failed[0]


def test_what_no_checkpoint_covers_yet_is_not_called_verified(console: Console):
    console.go("entry?index=58")
    assert console.wait("#verdict h2").startswith("Not covered by a checkpoint yet")
    assert "✗" not in console.seen.text("#verdict")
    assert console.seen.barriers() == []


def test_what_callers_called_themselves_is_text_here_too(console: Console):
    console.go("entry?index=4")
    console.wait("h2", "Why")
    assert HOSTILE in console.seen.text("main")
    console.go("query?where=outcome%3Drefused&asked=1")
    console.wait("caption", "2 entries")
    assert HOSTILE_KEY in console.seen.text("main")
    assert console.seen.driver.title == "Query – Audit console"
    assert console.seen.each("main script, main img, main b") == []
    assert console.seen.complaints() == []


def test_a_refusal_is_said_with_its_clause_and_rule(console: Console):
    console.go("query?where=approver%3Dx&asked=1")
    said = console.wait("[role=alert]")
    assert "G2.26" in said
    assert "only an auditor may query the log" in said
    assert "rule audit/not-auditor" in said


class _Stranger(BaseHTTPRequestHandler):
    """A page of somebody else on this machine, without any policy of its own."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!DOCTYPE html><title>stranger</title><link rel=icon href=data:,>")

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def stranger() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Stranger)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_page_of_another_site_gets_nothing(console: Console, views: MemoryViews):
    """A stranger on another port of this host: the browser even sends it our cookie, and still it learns nothing."""
    driver = console.seen.driver
    target = console.origin + "/api/query?where=kind%3Duse"
    ask = """
        const [target, mode, done] = arguments;
        fetch(target, { mode, credentials: "include" }).then((answer) => done("got " + answer.type), () => done("nothing"));
    """
    with stranger() as elsewhere:
        driver.get(elsewhere)
        assert driver.execute_async_script(ask, elsewhere, "cors") == "got basic"
        assert driver.execute_async_script(ask, target, "cors") == "nothing"
        assert driver.execute_async_script(ask, target, "no-cors") == "nothing"
        driver.execute_script("document.body.innerHTML = `<a href='${arguments[0]}/'>in</a>`", console.origin)
        driver.find_element(By.TAG_NAME, "a").click()
        console.wait("body", "A page of another site asked for this.")
    assert views.asked == []
    console.seen.complaints()


def test_a_name_that_is_made_to_point_here_opens_nothing(console: Console, views: MemoryViews):
    port = console.origin.rpartition(":")[2]
    console.seen.driver.get(f"http://rebound.example:{port}/")
    assert console.wait("body") == "This is not the address the command printed."
    assert views.asked == []
    console.seen.complaints()


def test_whoever_has_the_cookie_alone_reads_nothing(console: Console):
    """As another server on this host may have: it is shown a page, and no log."""
    console.seen.driver.execute_script("sessionStorage.clear(); location.reload()")
    assert "This page was not opened by the address the command printed." in console.wait("[role=alert]")
    console.seen.complaints()
