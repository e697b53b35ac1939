"""The corridor of MACs over one store, for tests: real policies, the published keys, a module in memory or a real one."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec

from cryptosvc.adapters.policy import CedarPolicy, load_policy
from cryptosvc.core.case import ModuleFacts, Principal, Request
from cryptosvc.core.content.base import Statement
from cryptosvc.core.content.forms import Profiles
from cryptosvc.core.content.gbcs import mac
from cryptosvc.core.content.gbcs.command import CommandContent
from cryptosvc.core.content.gbcs.parties import Parties
from cryptosvc.core.content.x509.profile import default_profile
from cryptosvc.core.errors import Malformed, Refusal
from cryptosvc.core.names import ContentForm, Environment, KeyId, RequestId
from cryptosvc.core.record import Claim, Produced
from cryptosvc.core.registry import Grant, KeyRecord
from cryptosvc.core.supply import SupplyProfile
from cryptosvc.flow.gather import Gatherer
from cryptosvc.flow.ports import Hsm
from cryptosvc.flow.sign import NotSigned, Signed, Signer
from tests.certificates import key_record
from tests.conftest import REPOSITORY
from tests.corridor import MODULE, SYSTEM, SoftwareHsm, caller_record
from tests.mac_keys import certificate, derived, private, shared_secret, tag
from tests.rtds import BROKER, PROFILE
from tests.store_stand import Stand

TOGETHER = 64
IN_FORCE = 1_577_836_800_000_000_000
"""2020-01-01: the published certificates were valid from 2015 to 2025."""
KEY = KeyId("broker-ka")
BROKER_OCTETS = bytes.fromhex(BROKER.replace("-", ""))
MODULE_FACTS = ModuleFacts(
    name=MODULE, standard="", level=0, certificate="", country="GB", worker_country="GB"
)


class Agreeing(SoftwareHsm):
    """Makes MACs with a key in memory."""

    def _one(self, claim: Claim) -> Produced:
        case = claim.authorised.case
        assert isinstance(case.content, CommandContent)
        self.signed.append(claim)
        command = case.content.command
        secret = shared_secret(self.private[case.key.key_id], case.content.device.public_point)
        made = tag(derived(secret, command.agreement), command.agreement, command.additional)
        return Produced(claim, self.spoil(made[:12], claim), "service")


class Asked:
    """One finished Command of the data set, and the request that should give it back."""

    def __init__(self, name: str, whole: bytes, folder: Path) -> None:
        self.name = name
        self.whole = whole
        read = mac.read_back(whole, 65_535)
        self.command = mac.parse(read.inner, PROFILE)
        said = name.split("_")[1]
        variants = self.command.pre_command.service_reference_variants
        self.request = Request(
            request_id=RequestId(name.removesuffix("_GBCS.HEX")[:64]),
            key_id=KEY,
            form=ContentForm.GBCS_COMMAND,
            payload=read.inner,
            statement=Statement(
                service_reference_variant=said if said in variants else "".join(variants[:1])
            ),
            device_certificate=certificate(folder, self.command.agreement.recipient),
        )

    def __repr__(self) -> str:
        return self.name


def asked_of(folder: Path) -> list[Asked]:
    """Every Command of the data set that carries a MAC."""
    paths = sorted((folder / "rtds").rglob("*_COMMAND_*.HEX"))
    found = [(path.name, bytes.fromhex(path.read_text())) for path in paths]
    return [Asked(name, whole, folder) for name, whole in found if whole[0] == 0xDD]


def parties_of(folder: Path) -> Parties:
    """Every Organisation whose certificate for signatures can be read."""
    known = []
    for path in sorted((folder / "keystore").glob("90b3d51f3*-ds.pem")):
        encoded = certificate(folder, bytes.fromhex(path.name.split("-")[0]), "ds")
        try:
            Parties.of([encoded], [], chained=False)
        except Malformed:
            continue
        known.append(encoded)
    assert len(known) > 5
    return Parties.of(known, [], chained=False)


@cache
def policy_set() -> CedarPolicy:
    """The policies of the project."""
    folder = REPOSITORY / "policies"
    return load_policy({path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()})


def broker_record(folder: Path) -> KeyRecord:
    """The record of the Access Control Broker's published key."""
    key = private(folder, BROKER_OCTETS)
    encoded = certificate(folder, BROKER_OCTETS)
    made = key_record("key-agreement", key.public_key(), encoded, role=4, entity=BROKER)
    return replace(made, key_id=KEY, module=MODULE, system=SYSTEM)


class Walk:
    """The corridor over one store; the module is in memory and holds `key`, or is the one given."""

    def __init__(
        self,
        stand: Stand,
        policy: CedarPolicy,
        key: ec.EllipticCurvePrivateKey,
        parties: Parties,
        module: Hsm | None = None,
    ) -> None:
        self.stand = stand
        profiles = Profiles(
            x509=default_profile(), gbcs=PROFILE, duis=None, log_origin="test/log", parties=parties
        )
        self.hsm = Agreeing(MODULE_FACTS, {KEY: key})
        used: Hsm = module or self.hsm
        gatherer = Gatherer(
            stand.keys, used, stand.clock, Environment.TEST, SupplyProfile(sensitive_variants=frozenset())
        )
        self._signer = Signer(gatherer, policy, stand.ledger, used, stand.clock, profiles)
        self.caller = replace(
            caller_record(Grant(operation="mac", key_class="key-agreement")), user_roles=frozenset()
        )

    async def apply(self, requests: Sequence[Request]) -> list[Signed | NotSigned]:
        principal = Principal(caller=self.caller, peer="ipv4:127.0.0.1:1")
        rest, answers = iter(requests), list[Signed | NotSigned]()
        while some := list(islice(rest, TOGETHER)):
            answers += await self._signer.sign(principal, some)
        return answers

    async def refusal(self, request: Request) -> Refusal:
        (answer,) = await self.apply([request])
        assert isinstance(answer, NotSigned), "it got its MAC"
        assert isinstance(answer.error, Refusal)
        return answer.error
