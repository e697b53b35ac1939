"""A module whose identity or firmware is not what its certificate covers: not used, and everybody is told why (G2.44)."""

import asyncio
import time
from dataclasses import replace

import pytest
import structlog
from grpc_health.v1.health_pb2 import HealthCheckResponse

from cryptosvc.adapters.clock import SystemClock
from cryptosvc.adapters.hsm.assurance import Assurance, Reported, require_expected
from cryptosvc.adapters.hsm.constants import TokenFlag
from cryptosvc.adapters.hsm.hsm import Pkcs11Hsm
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.core.errors import Unavailable
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import Environment, ModuleName
from cryptosvc.core.record import Failed, Produced
from cryptosvc.service.health import CRYPTO_SERVICE, KEY_SERVICE, Probe
from tests.claims import claim_to_sign, key_record
from tests.hsm_fixtures import make_softhsm

MODULE = ModuleName("module")
SERVING, NOT_SERVING = HealthCheckResponse.SERVING, HealthCheckResponse.NOT_SERVING


@pytest.fixture
def soft_token(tmp_path, monkeypatch):
    token = make_softhsm(tmp_path)
    monkeypatch.setenv("SOFTHSM2_CONF", token.conf)
    return token


@pytest.fixture
def drifting(monkeypatch):
    """What every token says of itself from now on, beside what it really is."""
    says: dict[str, str] = {}
    genuine = Reported.of.__func__
    monkeypatch.setattr(Reported, "of", classmethod(lambda cls, info: replace(genuine(cls, info), **says)))
    return says


def why(hsm: Pkcs11Hsm) -> str:
    try:
        hsm.facts(MODULE)
    except Unavailable as error:
        return error.rule
    return ""


async def until(condition, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("says", "rule"),
    [
        ({"firmware": "2.7"}, "hsm/unexpected-firmware"),
        ({"model": "another"}, "hsm/unexpected-model"),
        ({"manufacturer": "another"}, "hsm/unexpected-manufacturer"),
    ],
)
async def test_a_module_that_drifts_while_in_use_is_not_used_until_it_is_what_it_was(
    soft_token, drifting, says, rule
) -> None:
    with Provisioner(soft_token.config, soft_token.locks) as provisioner:
        point = provisioner.generate("k", b"\x01", ceiling("audit-signing").template)
    key = key_record(label="k", object_id=b"\x01", public_point=point)
    hsm = Pkcs11Hsm([soft_token.config], SystemClock(), soft_token.locks)
    hsm.start()
    published: dict[str, int] = {}

    async def publish(service: str, status: int) -> None:
        published[service] = status

    async def works() -> None:
        return

    async def module() -> None:
        hsm.facts(MODULE)

    probe = Probe(publish, {"module": module, "store": works, "log": works})
    try:
        (before,) = await hsm.sign([claim_to_sign(key, b"before")])
        assert isinstance(before, Produced)
        drifting.update(says)
        await until(lambda: why(hsm) == rule)
        (refused,) = await hsm.sign([claim_to_sign(key, b"after")])
        assert isinstance(refused, Failed)
        assert (type(refused.error), refused.error.rule) == (Unavailable, rule)
        (value,) = says.values()
        assert repr(value) in refused.error.message
        with structlog.testing.capture_logs() as logged:
            await probe.once()
        assert (published[CRYPTO_SERVICE], published[KEY_SERVICE]) == (NOT_SERVING, SERVING)
        (event,) = logged
        assert event["failing"] == {"module": rule}
        assert repr(value) in event["reasons"]["module"]
        drifting.clear()
        await until(lambda: why(hsm) == "")
        (again,) = await hsm.sign([claim_to_sign(key, b"again")])
        assert isinstance(again, Produced)
        await probe.once()
        assert published[CRYPTO_SERVICE] == SERVING
    finally:
        hsm.close()


REPORTED = Reported(
    label="label", serial="1", manufacturer="Maker", model="Model", firmware="5.1", flags=TokenFlag(0)
)


@pytest.mark.parametrize(
    ("covers", "certificate", "level", "environment", "rule"),
    [
        (("5.1",), "4321", 3, Environment.LIVE, ""),
        (("5.0", "5.1"), "4321", 3, Environment.LIVE, ""),
        (("5.0",), "4321", 3, Environment.LIVE, "hsm/firmware-not-certified"),
        (("5.10",), "4321", 3, Environment.LIVE, "hsm/firmware-not-certified"),
        (("5.0",), "4321", 3, Environment.TEST, "hsm/firmware-not-certified"),
        ((), "4321", 3, Environment.LIVE, "hsm/certificate-unstated"),
        (("5.1",), "", 3, Environment.LIVE, "hsm/certificate-unstated"),
        ((), "", 3, Environment.TEST, ""),
        ((), "", 0, Environment.LIVE, ""),
    ],
)
def test_a_certificate_is_of_the_firmware_it_names(
    soft_token, covers, certificate, level, environment, rule
) -> None:
    claimed = Assurance(
        standard="FIPS 140-2" if level else "",
        level=level,
        certificate=certificate,
        country="GB",
        firmware=covers,
    )
    config = replace(
        soft_token.config,
        manufacturer="Maker",
        model="Model",
        firmware="5.1",
        assurance=claimed,
        environment=environment,
    )
    if not rule:
        require_expected(config, REPORTED)
        return
    with pytest.raises(Unavailable) as refusal:
        require_expected(config, REPORTED)
    assert (refusal.value.rule, refusal.value.clause) == (rule, "G2.44")
