"""A module that dies, hangs, comes back, or is not what the configuration expects."""

import asyncio
import os
import shutil
import subprocess
import sys
import time
import traceback
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.assurance import Assurance
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.pins import PinCallable, PinFile
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.sessions_apart import MANY_SESSIONS
from cryptosvc.core.check import verify_p256
from cryptosvc.core.errors import Busy, OutcomeUnknown, Unavailable
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import Environment, ModuleName
from cryptosvc.core.record import Failed, Produced
from cryptosvc.core.registry import KeyRecord
from tests.claims import claim_to_sign, key_record
from tests.hsm_fixtures import REPOSITORY, DyingHsm, TestToken, build_slow_module, make_softhsm

MODULE = ModuleName("module")
GONE = ("hsm/gone", "hsm/token-absent")
"""A module that died, and one whose token was looked for again and is not there yet."""
CALL_SECONDS = 2.0
LEAVES = 75
WORKERS_AT_MOST = 8
"""One that loses calls in the client library of p11-kit leaves, and another takes its place."""


@pytest.fixture(scope="module")
def soft_token(tmp_path_factory):
    """A SoftHSM2 token with one signing key and one log key; SOFTHSM2_CONF points at it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        token = make_softhsm(tmp_path_factory.mktemp("t"))
        monkeypatch.setenv("SOFTHSM2_CONF", token.conf)
        yield token


@pytest.fixture(scope="module")
def key(soft_token):
    with Provisioner(soft_token.config, soft_token.locks) as provisioner:
        point = provisioner.generate("k", b"\x01", ceiling("audit-signing").template)
        provisioner.generate("log", b"\x02", ceiling("log-authentication").template)
    return key_record(label="k", object_id=b"\x01", public_point=point)


@pytest.fixture
def opened():
    """Open tokens that are closed at the end of the test."""
    started = []

    def start(token, **options):
        hsm = Pkcs11Hsm([token.config], SystemClock(), token.locks, **options)
        started.append(hsm)
        hsm.start()
        return hsm

    yield start
    for hsm in started:
        hsm.close()


def rule_of(hsm) -> str:
    """Why the module is not there; empty where it is."""
    try:
        hsm.facts(MODULE)
    except Unavailable as error:
        return error.rule
    return ""


async def until(condition, seconds: float) -> float:
    """Wait for it; how long it took."""
    begun = time.monotonic()
    while not condition():
        assert time.monotonic() - begun < seconds, f"not within {seconds} s"
        await asyncio.sleep(0.02)
    return time.monotonic() - begun


@pytest.fixture
def dying(soft_token, key, monkeypatch):
    server = DyingHsm(soft_token)
    monkeypatch.setenv("P11_KIT_SERVER_ADDRESS", server.address)
    server.start()
    yield server
    server.kill()


def test_a_module_that_dies_under_load_loses_nothing_and_comes_back(soft_token, key):
    """In a process of its own, as a worker is: p11-kit's client may leave calls of a dead server waiting for ever."""
    ended = 1
    for _ in range(WORKERS_AT_MOST):
        worker = get_context("spawn").Process(target=_dies_under_load, args=(soft_token, key))
        worker.start()
        worker.join(120)
        worker.kill()
        ended = worker.exitcode
        if ended != LEAVES:
            break
    assert ended == 0, f"the worker's exit code is {ended}; what it saw is on standard error"


def _dies_under_load(token: TestToken, key: KeyRecord) -> None:
    """What the worker does; it ends as `LEAVES` where a call into the module never came back."""
    server = DyingHsm(token)
    os.environ["P11_KIT_SERVER_ADDRESS"] = server.address
    server.start()
    hsm = Pkcs11Hsm([server.token.with_config(call_seconds=CALL_SECONDS).config], SystemClock(), token.locks)
    hsm.start()
    try:
        asyncio.run(_serve_through_a_death(hsm, server, key))
        stuck = hsm.stuck
    except BaseException:  # noqa: BLE001 - the exit code says it
        traceback.print_exc()
        os._exit(1)
    finally:
        server.kill()
    if stuck is not None:
        os._exit(LEAVES)  # as a worker does: the thread in the module cannot be waited for
    hsm.close()


async def _serve_through_a_death(hsm: Pkcs11Hsm, server: DyingHsm, key: KeyRecord) -> None:
    assert rule_of(hsm) == ""
    authenticator = hsm.head_mac(key_record(label="log", object_id=b"\x02"))
    mac = authenticator.mac(b"head")
    answered: list[tuple] = []
    stop = asyncio.Event()

    async def load(name: int) -> None:
        number = 0
        while not stop.is_set():
            claims = [claim_to_sign(key, b"%d/%d/%d" % (name, number, item)) for item in range(16)]
            answered.append((claims, await hsm.sign(claims)))
            number += 1
            await asyncio.sleep(0.001)

    loads = [asyncio.create_task(load(name)) for name in range(4)]
    await until(lambda: len(answered) > 20, 30)
    server.kill()
    await until(lambda: rule_of(hsm) in GONE, 10)
    with pytest.raises(Unavailable):
        authenticator.mac(b"head")
    await asyncio.sleep(0.3)
    server.start()
    await until(lambda: rule_of(hsm) == "" or hsm.stuck is not None, 20)
    back = len(answered)
    await until(lambda: len(answered) > back + 20, 30)
    stop.set()
    await asyncio.gather(*loads)

    kinds = set()
    for claims, answers in answered:
        assert [answer.claim for answer in answers] == claims
        for answer in answers:
            if isinstance(answer, Produced):
                verify_p256(
                    key.public_point, answer.signature, answer.claim.authorised.case.content.signed_bytes
                )
            else:
                kinds.add((type(answer.error), answer.error.rule))
    # In flight when it died: nobody knows. Everything else: the key was not used.
    away = {(Unavailable, rule) for rule in GONE}
    unknown = {(OutcomeUnknown, "hsm/outcome-unknown")}
    if hsm.stuck is not None:
        unknown.add((OutcomeUnknown, "hsm/call-stuck"))
        assert kinds - unknown <= away | {(Unavailable, "hsm/call-stuck")}
        return
    assert kinds <= away | unknown
    assert kinds & away
    lost = sum(
        isinstance(answer, Failed) and isinstance(answer.error, OutcomeUnknown)
        for _, answers in answered
        for answer in answers
    )
    assert lost <= server.token.config.sessions
    assert all(isinstance(answer, Produced) for answer in answered[-1][1])
    authenticator.verify(b"head", mac)


async def test_sessions_apart_find_a_module_gone_and_have_it_back(dying, key, opened):
    hsm = opened(dying.token.with_config(sessions=MANY_SESSIONS))
    await until(lambda: rule_of(hsm) == "", 20)
    (answer,) = await hsm.sign([claim_to_sign(key, b"before")])
    assert isinstance(answer, Produced)
    dying.kill()
    (answer,) = await hsm.sign([claim_to_sign(key, b"gone")])
    assert isinstance(answer.error, Unavailable | OutcomeUnknown)
    await until(lambda: rule_of(hsm) != "", 5)
    dying.start()
    end = time.monotonic() + 15
    while not isinstance((await hsm.sign([claim_to_sign(key, b"again")]))[0], Produced):
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def test_an_idle_module_that_dies_is_noticed_and_comes_back(dying, key, opened):
    hsm = opened(dying.token)
    dying.kill()
    await until(lambda: rule_of(hsm) in GONE, 10)
    (answer,) = await hsm.sign([claim_to_sign(key, b"x")])
    assert isinstance(answer, Failed)
    assert isinstance(answer.error, Unavailable)
    dying.start()
    await until(lambda: rule_of(hsm) == "", 20)
    (answer,) = await hsm.sign([claim_to_sign(key, b"x")])
    assert isinstance(answer, Produced)


async def test_a_module_that_is_not_there_at_start_is_taken_up_when_it_comes(dying, key, opened):
    dying.kill()
    hsm = opened(dying.token)
    assert rule_of(hsm) != ""
    dying.start()
    await until(lambda: rule_of(hsm) == "", 20)
    (answer,) = await hsm.sign([claim_to_sign(key, b"x")])
    assert isinstance(answer, Produced)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"token_serial": "0000000000000000"}, "hsm/unexpected-serial"),
        ({"token_label": "another"}, "hsm/token-absent"),
        ({"manufacturer": "SoftHSM"}, "hsm/unexpected-manufacturer"),
        ({"model": "SoftHSM v3"}, "hsm/unexpected-model"),
        ({"firmware": "2.7"}, "hsm/unexpected-firmware"),
        ({"library": "/nonexistent.so"}, "hsm/library"),
        ({"library": "/lib/x86_64-linux-gnu/libm.so.6"}, "hsm/library"),
        ({"pin": PinFile(Path("/nonexistent"))}, "hsm/pin-source"),
    ],
)
async def test_what_is_not_as_configured_is_not_used(soft_token, key, opened, changes, rule):
    hsm = opened(soft_token.with_config(**changes))
    assert rule_of(hsm) == rule
    (answer,) = await hsm.sign([claim_to_sign(key, b"x")])
    assert isinstance(answer, Failed)
    assert answer.error.rule == rule


def test_a_software_token_stands_in_for_a_validated_module_in_test_only(soft_token, opened):
    claimed = Assurance(standard="FIPS 140-2", level=3, certificate="1234", country="GB")
    stands_in = opened(soft_token.with_config(assurance=claimed))
    assert stands_in.facts(MODULE).level == 3
    stands_in.close()
    assert (
        rule_of(opened(soft_token.with_config(assurance=claimed, environment=Environment.LIVE)))
        == "hsm/software-token"
    )
    assert rule_of(opened(soft_token.with_config(environment=Environment.LIVE))) == ""


class CountedPin:
    """A PIN file that counts how often its PIN was handed out."""

    def __init__(self, path: Path) -> None:
        self._file = PinFile(path)
        self.stamp = self._file.stamp
        self.reads = 0

    def read(self) -> bytearray:
        self.reads += 1
        return self._file.read()


async def test_a_wrong_pin_is_tried_once_by_all_workers_together_until_it_changes(
    soft_token, tmp_path, opened, caplog, capfd
):
    path = tmp_path / "pin"
    path.write_text("73105522\n", encoding="ascii")
    path.chmod(0o600)
    source = CountedPin(path)
    config = replace(soft_token.config, pin=source)
    first = Pkcs11Hsm([config], SystemClock(), tmp_path / "locks")
    first.start()
    second = Pkcs11Hsm([config], SystemClock(), tmp_path / "locks")
    try:
        with pytest.raises(Unavailable) as caught:
            first.facts(MODULE)
        assert caught.value.rule == "hsm/pin-refused"
        second.start()
        assert rule_of(second) == "hsm/pin-refused"
        await asyncio.sleep(2)  # attempts would have come at 0.5, 1.5 s
        assert source.reads == 1
        path.write_text(soft_token.pin, encoding="ascii")
        await until(lambda: rule_of(first) == "", 20)
        await until(lambda: rule_of(second) == "", 20)
    finally:
        first.close()
        second.close()
    seen = "".join([str(caught.value), repr(caught.value), repr(config), caplog.text, *capfd.readouterr()])
    assert "73105522" not in seen
    assert soft_token.pin not in seen


async def test_a_wrong_pin_from_a_function_is_asked_for_once(soft_token, opened):
    asked = []

    def ask() -> bytearray:
        asked.append(1)
        return bytearray(b"00000000")

    hsm = opened(soft_token.with_config(pin=PinCallable(ask)))
    await asyncio.sleep(2)
    assert rule_of(hsm) == "hsm/pin-refused"
    assert len(asked) == 1


def test_a_pin_file_that_others_can_read_is_refused(soft_token, tmp_path, opened):
    path = tmp_path / "pin"
    path.write_text(soft_token.pin, encoding="ascii")
    path.chmod(0o640)
    assert rule_of(opened(soft_token.with_config(pin=PinFile(path)))) == "hsm/pin-source"


@pytest.fixture(scope="module")
def built_slow_module(tmp_path_factory) -> Path:
    return build_slow_module(tmp_path_factory.mktemp("native"))


@pytest.fixture
def slow_module(built_slow_module, tmp_path) -> Path:
    """The bench's slow module, which can also hang. A copy, since a library reads its settings once when it is loaded."""
    return Path(shutil.copy(built_slow_module, tmp_path / "slow_module.so"))


async def test_a_call_that_hangs_is_given_up_and_the_rest_goes_on(
    soft_token, key, slow_module, tmp_path, monkeypatch
):
    stuck = tmp_path / "stuck"
    monkeypatch.setenv("SLOW_MODULE_STUCK", str(stuck))
    monkeypatch.setenv("SLOW_MODULE_SIGN_US", "1000")
    token = soft_token.with_config(library=str(slow_module), call_seconds=0.5)
    hsm = Pkcs11Hsm([token.config], SystemClock(), token.locks)
    hsm.start()
    try:
        (answer,) = await hsm.sign([claim_to_sign(key, b"before")])
        assert isinstance(answer, Produced)
        stuck.touch()
        hanging = asyncio.create_task(hsm.sign([claim_to_sign(key, b"%d" % n) for n in range(2)]))
        answers = await asyncio.wait_for(hanging, 10)
        assert {(type(answer.error), answer.error.rule) for answer in answers} == {
            (OutcomeUnknown, "hsm/call-stuck")
        }
        stuck.unlink()
        answers = await hsm.sign([claim_to_sign(key, b"%d" % n) for n in range(20)])
        assert all(isinstance(answer, Produced) for answer in answers)
        assert rule_of(hsm) == ""
    finally:
        stuck.unlink(missing_ok=True)
        hsm.close()


async def test_a_call_that_never_returns_takes_the_module_from_this_process(
    soft_token, key, slow_module, tmp_path, monkeypatch
):
    stuck = tmp_path / "stuck"
    monkeypatch.setenv("SLOW_MODULE_STUCK", str(stuck))
    monkeypatch.setenv("SLOW_MODULE_SIGN_US", "1000")
    token = soft_token.with_config(library=str(slow_module), call_seconds=0.3)
    hsm = Pkcs11Hsm([token.config], SystemClock(), token.locks)
    hsm.start()
    try:
        await hsm.sign([claim_to_sign(key, b"before")])
        assert hsm.stuck is None
        stuck.touch()
        hanging = [asyncio.create_task(hsm.sign([claim_to_sign(key, b"%d" % n)])) for n in range(6)]
        await until(lambda: hsm.stuck is not None, 10)
        # Those inside are unknown; what waited for a session is answered at once and was not done.
        rules = {(await one)[0].error.rule for one in hanging}
        assert rules == {"hsm/call-stuck"}
        assert rule_of(hsm) == "hsm/call-stuck"
        (answer,) = await hsm.sign([claim_to_sign(key, b"after")])
        assert isinstance(answer, Failed)
        assert isinstance(answer.error, Unavailable)
    finally:
        stuck.unlink(missing_ok=True)
        hsm.close()


async def test_a_claim_whose_deadline_passed_is_not_begun(soft_token, key, opened):
    hsm = opened(soft_token)
    late, timely = await hsm.sign([claim_to_sign(key, b"a", seconds=-0.001), claim_to_sign(key, b"b")])
    assert isinstance(late, Failed)
    assert (type(late.error), late.error.rule) == (Unavailable, "hsm/deadline")
    assert isinstance(timely, Produced)


async def test_a_full_queue_is_busy_and_one_below_is_not(soft_token, key, opened):
    hsm = opened(soft_token, queue_items=8)
    fits = await hsm.sign([claim_to_sign(key, b"x") for _ in range(8)])
    assert all(isinstance(answer, Produced) for answer in fits)
    refused = await hsm.sign([claim_to_sign(key, b"x") for _ in range(9)])
    assert {(type(answer.error), answer.error.rule) for answer in refused} == {(Busy, "hsm/queue-full")}
    again = await hsm.sign([claim_to_sign(key, b"x") for _ in range(8)])
    assert all(isinstance(answer, Produced) for answer in again)


async def test_a_closed_hsm_answers_and_does_not_hang(soft_token, key, opened):
    hsm = opened(soft_token)
    authenticator = hsm.head_mac(key_record(label="log", object_id=b"\x02"))
    hsm.close()
    (answer,) = await hsm.sign([claim_to_sign(key, b"x")])
    assert isinstance(answer, Failed)
    assert isinstance(answer.error, Unavailable)
    with pytest.raises(Unavailable):
        authenticator.mac(b"x")
    with pytest.raises(Unavailable):
        hsm.facts(MODULE)


_CHILD = """
import asyncio, os, sys, threading
from pathlib import Path
from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.assurance import Assurance, ModuleConfig
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.pins import PinFile
from cryptosvc.core.errors import Unavailable
from cryptosvc.core.names import Environment
from cryptosvc.core.record import Produced
from tests.claims import claim_to_sign, key_record

folder, library, label, serial, point, task = sys.argv[1:]
config = ModuleConfig(name="module", library=library, token_label=label, token_serial=serial,
    pin=PinFile(Path(folder, "pin")), sessions=2, manufacturer="SoftHSM project", model="SoftHSM v2", firmware="2.6",
    assurance=Assurance(standard="", level=0, certificate="", country="GB"), worker_country="GB",
    environment=Environment.TEST)
hsm = Pkcs11Hsm([config], SystemClock(), Path(folder, "locks"))
hsm.start()
key = key_record(label="k", object_id=b"\\x01", public_point=bytes.fromhex(point))
answers = asyncio.run(hsm.sign([claim_to_sign(key, b"%d" % n) for n in range(100)]))
assert all(isinstance(answer, Produced) for answer in answers), answers[0]
if task == "fork":
    if (child := os.fork()) == 0:
        try:
            hsm.facts("module")
        except Unavailable as error:
            answer, = asyncio.run(hsm.sign([claim_to_sign(key, b"x")]))
            os._exit(0 if error.rule == "hsm/forked" == answer.error.rule else 2)
        os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    assert isinstance(asyncio.run(hsm.sign([claim_to_sign(key, b"x")]))[0], Produced)
# No close(): leaving is the interpreter's business, and it must not crash.
"""


def child(token, key, task: str) -> subprocess.Popen:
    config = token.config
    arguments = [
        token.folder,
        config.library,
        config.token_label,
        config.token_serial,
        key.public_point.hex(),
        task,
    ]
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", _CHILD, *map(str, arguments)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def test_eight_processes_that_start_and_leave_at_once_all_sign(soft_token, key):
    children = [child(soft_token, key, "sign") for _ in range(8)]
    outputs = [(process.communicate(timeout=120)[0], process.returncode) for process in children]
    assert outputs == [(b"", 0)] * 8


def test_a_forked_child_may_not_use_its_parents_module(soft_token, key):
    process = child(soft_token, key, "fork")
    assert (process.communicate(timeout=60)[0], process.returncode) == (b"", 0)


async def test_one_bad_token_of_a_library_does_not_disturb_a_good_one(soft_token, key):
    bad = replace(soft_token.config, name=ModuleName("bad"), firmware="9.9")
    hsm = Pkcs11Hsm([soft_token.config, bad], SystemClock(), soft_token.locks)
    hsm.start()
    try:
        there = replace(key, module=ModuleName("bad"))
        end = time.monotonic() + 2  # the bad one is tried again at 0.5 and 1.5 s
        while time.monotonic() < end:
            claims = [claim_to_sign(which, b"x") for which in (key, there, key)]
            answers = await hsm.sign(claims)
            assert [answer.claim for answer in answers] == claims
            good, refused, also_good = answers
            assert isinstance(good, Produced)
            assert isinstance(also_good, Produced)
            assert isinstance(refused, Failed)
            assert refused.error.rule == "hsm/unexpected-firmware"
    finally:
        hsm.close()


async def test_a_cancelled_call_does_not_begin_what_was_not_begun(soft_token, key, slow_module, monkeypatch):
    monkeypatch.setenv("SLOW_MODULE_SIGN_US", "20000")
    token = soft_token.with_config(library=str(slow_module), sessions=1)
    hsm = Pkcs11Hsm([token.config], SystemClock(), token.locks)
    hsm.start()
    try:
        await hsm.sign([claim_to_sign(key, b"warm")])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(hsm.sign([claim_to_sign(key, b"x") for _ in range(500)]), 0.1)
        begun = time.monotonic()
        (answer,) = await hsm.sign([claim_to_sign(key, b"y")])
        assert isinstance(answer, Produced)
        assert time.monotonic() - begun < 2  # 500 items would have taken 10 s
    finally:
        hsm.close()
