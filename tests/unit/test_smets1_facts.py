"""What G2.44A asks, as the gatherer finds it: read from the request and from configured tables, never from what a caller says."""

from collections.abc import Collection
from dataclasses import replace

import pytest

from cryptosvc.core.assurance import AssuranceProfile, Classified
from cryptosvc.core.case import Case, Facts, ModuleFacts, Principal
from cryptosvc.core.content.dlms import protection
from cryptosvc.core.content.dlms.profile import Model, Smets1Profile
from cryptosvc.core.device_keys import sealed_record
from cryptosvc.core.errors import Forbidden
from cryptosvc.core.keyclass import DEVICE_CLASSES
from cryptosvc.core.life import Asset
from cryptosvc.core.names import ContentForm, Environment, KeyId, ModuleName, UserRole, operation_on
from cryptosvc.core.registry import Origin
from cryptosvc.core.supply import SupplyProfile
from cryptosvc.flow.gather import Gatherer
from cryptosvc.flow.ports import KeyView
from tests.claims import key_record
from tests.corridor import StepClock, caller_record
from tests.device_rows import BINDING, EPOCH, SYSTEM, row
from tests.dlms_device import protected
from tests.smets1_corridor import CLIENT, GET, GRANTS, METER, asked, name
from tests.unit.test_dlms_requests import ENTER

CATEGORY_1 = Smets1Profile(frozenset({CLIENT}), (Model("maker", "m1", "1.0", category_1=True),))
OTHER_FIRMWARE = Smets1Profile(frozenset({CLIENT}), (Model("maker", "m1", "1.1", category_1=True),))
LEVEL_2 = ModuleFacts(
    name=ModuleName("module"),
    standard="FIPS 140-2",
    level=2,
    certificate="1",
    country="GB",
    worker_country="GB",
)


class Keys:
    """Two keys of one Device."""

    async def keys(self, key_ids: Collection[KeyId]) -> KeyView:
        epoch = replace(EPOCH, asset=Asset(classification="official"))
        found = {
            name(kind): sealed_record(row(1, kind=kind), name(kind), 1, epoch, BINDING)
            for kind in ("encryption", "authentication")
        }
        return KeyView(1, {one: found[one] for one in key_ids if one in found})


class Modules:
    """One module of level 2."""

    def facts(self, module: ModuleName) -> ModuleFacts:
        return LEVEL_2


async def facts_of(
    form: ContentForm,
    text: bytes = GET,
    profile: Smets1Profile = CATEGORY_1,
    assurance: AssuranceProfile | None = None,
) -> tuple[Facts, Facts | None]:
    """Of the first key, and of the second where one takes part."""
    gatherer = Gatherer(
        Keys(),  # type: ignore[arg-type]  # what is asked of it
        Modules(),  # type: ignore[arg-type]
        StepClock(),
        Environment.LIVE,
        SupplyProfile(frozenset()),
        assurance or AssuranceProfile(exempt_level=2),
        None,
        profile,
    )
    title = METER if form is ContentForm.DLMS_PROTECTED else CLIENT
    request = asked(form, text, title=title)
    if form is ContentForm.DLMS_PROTECTED:
        content = protection.parse_protected(request.payload)
    else:
        content = protection.parse(form, request.payload, profile)
    caller = replace(
        caller_record(*GRANTS), system=SYSTEM, user_roles=frozenset({UserRole.SMETS1_SERVICE_PROVIDER})
    )
    (case,) = await gatherer.gather(
        Principal(caller=caller, peer=""), operation_on(form), [(request, content)]
    )
    assert isinstance(case, Case), case
    return case.facts, None if case.second is None else case.second.facts


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        (ContentForm.DLMS_AUTHENTICATED_ENCRYPTION, ENTER, (True, True, True)),
        (ContentForm.DLMS_AUTHENTICATION, ENTER, (True, True, True)),
        (ContentForm.DLMS_ENCRYPTION, ENTER, (True, True, True)),
        (ContentForm.DLMS_AUTHENTICATED_ENCRYPTION, GET, (False, True, True)),
        (ContentForm.DLMS_CHALLENGE, b"P6wRJ21F", (False, False, True)),
        (ContentForm.DLMS_PROTECTED, protected(0x10, METER, 1, ENTER), (False, False, True)),
        (ContentForm.DLMS_PROTECTED, protected(0x30, METER, 1, ENTER), (False, False, True)),
    ],
)
async def test_add_credit_and_instruction_are_read(
    form: ContentForm, text: bytes, expected: tuple[bool, bool, bool]
) -> None:
    facts, second = await facts_of(form, text)
    assert (facts.add_credit, facts.instruction, facts.category_1) == expected
    # of level 2, which the scheme here lets what is exempt do, and nothing else
    assert facts.module_established is (expected[0] or (expected[1] and expected[2]))
    if form is ContentForm.DLMS_ENCRYPTION:
        assert second is None
        return
    assert second is not None
    assert (second.key_class, second.operation.value) == ("smets1-authentication", "accompany")
    assert replace(second, key_class=facts.key_class, operation=facts.operation) == facts


async def test_a_device_of_no_row_is_of_no_category() -> None:
    for profile in (OTHER_FIRMWARE, Smets1Profile(frozenset({CLIENT}))):
        facts, _ = await facts_of(ContentForm.DLMS_ENCRYPTION, profile=profile)
        assert (facts.instruction, facts.category_1, facts.module_established) == (True, False, False)


async def test_the_scheme_says_where_what_is_exempt_is_done() -> None:
    for scheme, level, expected in (
        ((), 2, True),
        ((), 3, False),
        ((Classified("official"),), 2, True),
        ((Classified("official", modules=frozenset({ModuleName("another")})),), 2, False),
        ((Classified("secret"),), 2, False),
    ):
        assurance = AssuranceProfile(scheme=scheme, exempt_level=level)
        facts, _ = await facts_of(ContentForm.DLMS_ENCRYPTION, ENTER, assurance=assurance)
        assert facts.module_established is expected
    assert not AssuranceProfile(exempt_level=1).establishes("official", LEVEL_2.name, 2)


def test_a_key_of_the_registry_is_used_on_nothing_of_a_device() -> None:
    content = protection.parse(
        ContentForm.DLMS_ENCRYPTION, asked(ContentForm.DLMS_ENCRYPTION).payload, CATEGORY_1
    )
    for key_class in sorted(DEVICE_CLASSES):
        with pytest.raises(Forbidden) as refusal:
            protection.bind(
                content,
                key_record(key_class=key_class),
                None,
                asked(ContentForm.DLMS_ENCRYPTION).statement,
                CATEGORY_1,
            )
        assert refusal.value.rule == "dlms/not-a-device-key"


def test_a_device_key_may_be_used_in_live() -> None:
    # it came wrapped under a quorum's approval, or was made in the module: adopted it is not
    assert sealed_record(row(1), name("encryption"), 1, EPOCH, BINDING).origin is Origin.TRANSFERRED
