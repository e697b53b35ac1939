"""What G2.44A asks, as the gatherer finds it: read from the request and from configured tables, never from what a caller says."""

from collections.abc import Collection
from dataclasses import replace

import pytest

from cryptosvc.core import associations
from cryptosvc.core.assurance import AssuranceProfile, Classified
from cryptosvc.core.case import Case, Facts, ModuleFacts, Principal
from cryptosvc.core.content.dlms import protection
from cryptosvc.core.content.dlms.profile import Model, Smets1Profile
from cryptosvc.core.device_keys import sealed_record
from cryptosvc.core.errors import Forbidden, WrongState
from cryptosvc.core.keyclass import DEVICE_CLASSES
from cryptosvc.core.life import Asset, Event, UnixSeconds
from cryptosvc.core.names import (
    ContentForm,
    Environment,
    KeyId,
    ModuleName,
    UnixNanoseconds,
    UserRole,
    operation_on,
)
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


CLASSIFIED = replace(EPOCH, asset=Asset(classification="official"))


class Keys:
    """Two keys of one Device, and the storage keys."""

    async def keys(self, key_ids: Collection[KeyId]) -> KeyView:
        epoch = CLASSIFIED
        found = {epoch.key_id: epoch, BINDING.key_id: BINDING} | {
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
    association: bytes = b"",
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
    if association:
        request = replace(request, key_id=name("dedicated"), association=association)
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


def association(at: int = 1_800_000_000) -> bytes:
    """A seal, whose tag nobody looks at here."""
    base = sealed_record(row(1, kind="encryption"), name("encryption"), 1, CLASSIFIED, BINDING)
    made = associations.to_be_made(base, "caller", "request", UnixNanoseconds(at * 10**9), 900)
    return associations.emit(replace(made, blob=bytes(24), tag=bytes(32), check_value=bytes(3)))


CATEGORY_2 = Smets1Profile(frozenset({CLIENT}), (Model("maker", "m1", "1.0", category_2=True),))


@pytest.mark.parametrize("profile", [CATEGORY_1, CATEGORY_2])
@pytest.mark.parametrize("within", [True, False])
async def test_a_key_of_one_association_is_known_by_its_seal(profile: Smets1Profile, within: bool) -> None:
    read = protected(0x10, METER, 1, GET)
    facts, second = await facts_of(
        ContentForm.DLMS_PROTECTED, read, profile, association=association() if within else b""
    )
    assert facts.one_association is within
    assert facts.category_2 is (profile is CATEGORY_2)
    assert facts.key_class == ("smets1-dedicated" if within else "smets1-encryption")
    assert facts.module_established is (within and profile is CATEGORY_2)
    assert second is not None
    assert not second.one_association  # the authentication key outlives it


def test_what_a_restore_may_have_rewound_is_over() -> None:
    opened_at = 1_800_000_000
    made = associations.read(association(opened_at))
    at = UnixNanoseconds((opened_at + 1) * 10**9)
    for advanced, over in ((opened_at - 1, False), (opened_at, True), (opened_at + 1, True)):
        life = replace(CLASSIFIED.life, above=(("dlms-invocation-counter", 7),))
        storage = replace(CLASSIFIED, life=life.passed(Event.ADVANCE, UnixSeconds(advanced)))
        if not over:
            found = associations.dedicated_record(made, name("dedicated"), storage, BINDING, at)
            assert not found.life.above
            continue
        with pytest.raises(WrongState) as caught:
            associations.dedicated_record(made, name("dedicated"), storage, BINDING, at)
        assert (caught.value.rule, caught.value.clause) == ("association/rewound", "G2.16")
