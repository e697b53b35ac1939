"""Sessions in a process of their own: what becomes of a work when that process dies, hangs, or is not wanted any more."""

import asyncio
import os
import pickle
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.adapters.hsm.sessions_apart import MANY_SESSIONS
from cryptosvc.core.check import verify_p256
from cryptosvc.core.errors import OutcomeUnknown, Unavailable
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.record import Produced
from tests.claims import claim_to_sign, key_record
from tests.hsm_fixtures import REPOSITORY, build_slow_module, make_softhsm


@pytest.fixture
def token(tmp_path, monkeypatch):
    made = make_softhsm(tmp_path / "t", sessions=MANY_SESSIONS)
    monkeypatch.setenv("SOFTHSM2_CONF", made.conf)
    return made


@pytest.fixture
def key(token):
    with Provisioner(token.config, token.locks) as provisioner:
        point = provisioner.generate("k", b"\x01", ceiling("audit-signing").template)
    return key_record(label="k", object_id=b"\x01", public_point=point)


@pytest.fixture
def slow(token, tmp_path, monkeypatch):
    """The token behind a module that takes 20 ms for each signature, and hangs while the file `stuck` is there."""
    monkeypatch.setenv("SLOW_MODULE_SIGN_US", "20000")
    monkeypatch.setenv("SLOW_MODULE_STUCK", str(tmp_path / "stuck"))
    return token.with_config(library=str(build_slow_module(tmp_path)), call_seconds=1.0)


@pytest.fixture
def opened():
    started = []

    def start(token) -> Pkcs11Hsm:
        hsm = Pkcs11Hsm([token.config], SystemClock(), token.locks)
        started.append(hsm)
        hsm.start()
        return hsm

    yield start
    for hsm in started:
        hsm.close()


def holders(parent: int | None = None) -> list[int]:
    """Processes with sessions that are children of a process, of this one where none is given."""
    children = Path(f"/proc/{parent or os.getpid()}/task").glob("*/children")
    found = [int(word) for path in children for word in path.read_text().split()]
    return [number for number in found if b"session_process" in Path(f"/proc/{number}/cmdline").read_bytes()]


def ended(process: int) -> bool:
    """Whether it let go of everything; one that is ending has no command line any more, and its socket still."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text()
    except FileNotFoundError:
        return True
    return stat.rpartition(")")[2].split()[0] in "ZX"


async def until(condition, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        await asyncio.sleep(0.02)


async def signs_again(hsm, key) -> None:
    """What is answered meanwhile was not done, and says so; or its process left as well.

    Where opening the token takes longer than the second that a call has here, the one who opens it is taken for hung.
    """
    end = time.monotonic() + 60
    while True:
        (answer,) = await hsm.sign([claim_to_sign(key, b"again")])
        if isinstance(answer, Produced):
            return
        left = isinstance(answer.error, OutcomeUnknown) and answer.error.rule == "hsm/sessions-lost"
        assert left or isinstance(answer.error, Unavailable), answer.error
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


async def test_what_a_killed_process_had_is_unknown_and_another_takes_its_place(slow, key, opened):
    hsm = opened(slow)
    (holder,) = holders()
    under_way = asyncio.create_task(hsm.sign([claim_to_sign(key, b"%d" % n) for n in range(100)]))
    await asyncio.sleep(0.1)
    os.kill(holder, signal.SIGKILL)
    answers = await asyncio.wait_for(under_way, 10)
    assert {(type(answer.error), answer.error.rule) for answer in answers} == {
        (OutcomeUnknown, "hsm/sessions-lost")
    }
    await signs_again(hsm, key)
    assert holders() != [holder]


async def test_signatures_of_many_works_at_once_are_each_of_their_own_bytes(token, key, opened):
    hsm = opened(token)
    works = [[claim_to_sign(key, b"%d of %d" % (n, work)) for n in range(1 + work % 5)] for work in range(40)]
    for claims, answers in zip(works, await asyncio.gather(*map(hsm.sign, works)), strict=True):
        assert [answer.claim for answer in answers] == claims
        for claim, answer in zip(claims, answers, strict=True):
            assert isinstance(answer, Produced)
            signed = claim.authorised.case.content.signed_bytes
            verify_p256(key.public_point, answer.signature, signed)


async def test_a_call_that_never_returns_costs_its_own_outcome_and_the_process(slow, key, opened, tmp_path):
    hsm = opened(slow)
    (holder,) = holders()
    stuck = tmp_path / "stuck"
    stuck.touch()
    try:
        answers = await asyncio.wait_for(hsm.sign([claim_to_sign(key, b"%d" % n) for n in range(2)]), 10)
        assert all(isinstance(answer.error, OutcomeUnknown) for answer in answers)
        await until(lambda: ended(holder))
    finally:
        stuck.unlink()
    await signs_again(hsm, key)


async def test_a_cancelled_work_is_not_begun_where_it_was_not_begun(slow, key, opened):
    hsm = opened(slow)
    await hsm.sign([claim_to_sign(key, b"warm")])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(hsm.sign([claim_to_sign(key, b"x") for _ in range(2000)]), 0.1)
    begun = time.monotonic()
    (answer,) = await hsm.sign([claim_to_sign(key, b"y")])
    assert isinstance(answer, Produced)
    assert time.monotonic() - begun < 5  # 2,000 items would have taken 10 s


async def test_nothing_secret_stands_where_others_can_read_it(token, key, opened):
    opened(token)
    (holder,) = holders()
    pin = (token.folder / "pin").read_bytes().strip()
    assert pin not in Path(f"/proc/{holder}/cmdline").read_bytes()
    assert resource.prlimit(holder, resource.RLIMIT_CORE) == (0, 0)


_PARENT = """
import os, signal, sys, tests.fault.test_sessions_apart as these
from pathlib import Path
from tests.hsm_fixtures import TestToken
import pickle
config, locks = pickle.loads(bytes.fromhex(sys.stdin.readline()))
hsm = these.Pkcs11Hsm([config], these.SystemClock(), locks)
hsm.start()
print(*these.holders(), flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_it_ends_with_the_worker_it_belongs_to(token):
    done = subprocess.run(
        [sys.executable, "-c", _PARENT],
        check=False,
        input=pickle.dumps((token.config, token.locks)).hex() + "\n",
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        timeout=60,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    (holder,) = map(int, done.stdout.split())
    end = time.monotonic() + 10
    while not ended(holder):
        assert time.monotonic() < end
        time.sleep(0.02)


async def test_closed_it_is_gone(token, opened):
    hsm = opened(token)
    assert len(holders()) == 1
    hsm.close()
    assert holders() == []
