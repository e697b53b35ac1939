"""Keys after a restore: held, and let go by a quorum alone, past what was lost (G2.16)."""

from dataclasses import replace

import pytest

from cryptosvc.core import rewound
from cryptosvc.core.content.base import Once, Rising
from cryptosvc.core.device_keys import require_opens
from cryptosvc.core.errors import Conflict, Corrupt, Malformed, WrongState
from cryptosvc.core.judge import judge
from cryptosvc.core.keyclass import KEY_CLASSES
from cryptosvc.core.life import Event, Life, life_document, life_from_document
from cryptosvc.core.names import KeyId
from cryptosvc.core.record import Because
from cryptosvc.core.registry import KeyState
from tests.claims import key_record
from tests.corridor import ALLOWED
from tests.govern_stand import HANDS_IN, Stand
from tests.governance import NOW
from tests.unit.test_judge_and_check import a_case

BACKUP = "ba" * 32


async def held_stand() -> Stand:
    """An active command-signing key, held by a restore as the command writes it."""
    stand = await Stand().begin()
    await stand.active("key-1")
    key = rewound.held(stand.key("key-1"), NOW, BACKUP)
    await stand.keys.change([key], Because("rule", rewound.REWOUND))
    return stand


async def test_a_held_key_is_suspended_and_nobody_resumes_it():
    stand = await held_stand()
    key = stand.key("key-1")
    assert (key.state, key.life.held) == (KeyState.SUSPENDED, BACKUP)
    with pytest.raises(WrongState) as refused:
        await stand.carry("key.resume", "key-1")
    assert (refused.value.rule, refused.value.clause) == ("restore/held", "G2.16")
    assert stand.replay().records == stand.ledger.records


async def test_a_quorum_advances_it_and_then_it_is_resumed():
    stand = await held_stand()
    await stand.carry("key.advance", "key-1", above="gbcs-counter=1700")
    key = stand.key("key-1")
    assert (key.state, key.life.held, key.life.above) == (
        KeyState.SUSPENDED,
        "",
        (("gbcs-counter", 1700),),
    )
    await stand.carry("key.resume", "key-1")
    assert stand.key("key-1").state is KeyState.ACTIVE
    assert stand.replay().records == stand.ledger.records


async def test_or_another_key_takes_its_place():
    stand = await held_stand()
    await stand.active("key-2")
    await stand.carry("key.supersede", "key-1", by="key-2")
    assert stand.key("key-1").state is KeyState.DEACTIVATED
    assert stand.replay().records == stand.ledger.records


@pytest.mark.parametrize(
    "above",
    [
        "",
        "crl-number=3",
        "gbcs-counter=",
        "gbcs-counter=1,crl-number=2",
        "gbcs-counter=1,gbcs-counter=2",
        ",",
    ],
)
async def test_it_is_advanced_in_the_scopes_of_its_class_and_no_other(above):
    stand = await held_stand()
    with pytest.raises(Malformed) as refused:
        await stand.approved("key.advance", "key-1", (), above=above)
    assert refused.value.rule == "restore/above"


async def test_a_key_that_is_not_held_is_not_advanced():
    stand = await Stand().begin()
    await stand.ordered("key-1")
    with pytest.raises(WrongState) as refused:
        await stand.approved("key.advance", "key-1", (), above="gbcs-counter=1")
    assert refused.value.rule == "restore/not-held"


def test_what_has_no_order_is_not_advanced():
    key = replace(key_record(), key_class="tls", life=Life(held=BACKUP))
    with pytest.raises(WrongState) as refused:
        rewound.advanced(key, "tls-random=1", None)
    assert refused.value.rule == "restore/rotate"


def test_uses_that_may_be_forgotten_come_off_the_limit():
    key = replace(key_record(), key_class="service-signing", life=Life(held=BACKUP, usage_limit=10))
    assert rewound.is_held(key)
    assert rewound.advanced(key, "", 3).life.usage_limit == 7
    assert rewound.advanced(key, "", 30).life.usage_limit == 0
    with pytest.raises(Malformed) as refused:
        rewound.advanced(key, "", None)
    assert refused.value.rule == "restore/lost-uses"


def test_a_key_that_was_advanced_takes_nothing_up_to_the_mark():
    for promise, number in (
        (lambda number: Once("gbcs-counter", f"90-B3-D5-1F-30-01-00-00/00-DB/01/{number}", bytes(32)), 1700),
        (lambda number: Once("gbcs-mac", f"90-B3/00-DB/02/{number}", bytes(32)), 2**63),
        (lambda number: Once("duis-request-id", f"90-B3:00-DB:{number}:service-request", bytes(32)), 12),
        (lambda number: Once("certificate-serial", str(number), bytes(32)), 2**100),
        (lambda number: Rising("crl-number", number), 4),
        (lambda number: Rising("dlms-invocation-counter", number), 9),
    ):
        key = replace(key_record(), life=Life(above=((promise(1).scope, number),)))

        def require(promise, key=key):
            rewound.require_above(key, type("Content", (), {"promises": (promise,)})())

        require(promise(number + 1))
        for used in (number, number - 1):
            with pytest.raises(Conflict) as refused:
                require(promise(used))
            assert refused.value.rule == "restore/not-above"


async def test_the_judge_asks_for_it():
    case, corridor = await a_case()
    counter = int(dict(case.content.facts)["counter"])
    for above, refuses in ((counter - 1, False), (counter, True)):
        life = replace(case.key.life, above=(("gbcs-counter", above),))
        advanced = replace(case, key=replace(case.key, life=life))
        if not refuses:
            assert judge(advanced, ALLOWED, corridor.profiles).case is advanced
            continue
        with pytest.raises(Conflict) as refused:
            judge(advanced, ALLOWED, corridor.profiles)
        assert refused.value.rule == "restore/not-above"


def test_every_class_whose_contents_promise_something_is_held_and_only_those():
    """The log's own keys are the exception: a log that was put back is what witnesses catch."""
    promising = {name for name, row in KEY_CLASSES.items() if row.ceiling and not name.startswith("smets1-")}
    assert promising - set(rewound.SCOPES) == {"audit-signing", "service-signing"}
    assert set(rewound.SCOPES) - promising == {"storage-wrapping"}  # for the device keys under it


@pytest.mark.parametrize("state", list(KeyState))
def test_what_is_over_is_not_held_but_an_epoch_is(state):
    key = replace(key_record(), key_class="command-signing", state=state)
    gone = {KeyState.ORDERED, KeyState.COMPROMISED, KeyState.DESTROYED}
    assert rewound.is_held(key) is (state not in gone | {KeyState.DEACTIVATED})
    assert rewound.is_held(replace(key, key_class="storage-wrapping")) is (state not in gone)


def test_device_keys_of_a_held_epoch_do_not_open_and_do_not_move_to_a_lesser_one():
    epoch = replace(key_record(), key_class="storage-wrapping", state=KeyState.DEACTIVATED)
    sealed = type("Sealed", (), {"wrapping": replace(epoch, life=Life(held=BACKUP)), "binding": epoch})()
    with pytest.raises(WrongState) as refused:
        require_opens(sealed)
    assert refused.value.rule == "restore/held"
    sealed.wrapping = epoch
    require_opens(sealed)
    old = replace(epoch, life=Life(above=(("dlms-invocation-counter", 7),)))
    for number, carries in ((6, False), (7, True)):
        new = replace(epoch, key_id=KeyId("new"), life=Life(above=(("dlms-invocation-counter", number),)))
        if carries:
            rewound.require_carries(old, new)
            continue
        with pytest.raises(WrongState) as refused:
            rewound.require_carries(old, new)
        assert refused.value.rule == "restore/epoch"


async def test_a_key_destroyed_since_stays_destroyed_and_replay_derives_it():
    stand = await Stand().begin()
    await stand.active("key-1")
    gone = rewound.destroyed_since(stand.key("key-1"), NOW)
    await stand.keys.change([gone], Because("rule", rewound.DESTROYED_SINCE))
    assert stand.key("key-1").state is KeyState.DESTROYED
    assert stand.replay().records == stand.ledger.records


async def test_replay_finds_a_rule_that_gives_power():
    stand = await held_stand()
    free = replace(stand.key("key-1"), version=4, state=KeyState.ACTIVE, life=Life(held=BACKUP))
    for rule in (rewound.REWOUND, rewound.DESTROYED_SINCE):
        here = await held_stand()
        key = here.key("key-1")
        await here.keys.change([replace(free, version=key.version + 1)], Because("rule", rule))
        with pytest.raises(Corrupt) as refused:
            here.replay()
        assert refused.value.rule == "replay/rule"


async def test_the_quorum_behind_a_restore_changes_no_record_and_is_derived_again():
    stand = await Stand().begin()
    before = dict(stand.ledger.records)
    ended = await stand.carry("log.restore", BACKUP, size=10, known=12)
    assert ended.records == ()
    assert {name for name in stand.ledger.records if name not in before} == {
        ("proposal-record", ended.proposal.proposal_id)
    }
    assert stand.replay().records == stand.ledger.records
    with pytest.raises(Conflict):  # once
        await stand.governor.execute(HANDS_IN, ended.proposal.proposal_id)
    with pytest.raises(Malformed) as refused:
        await stand.approved("log.restore", "a-backup", (), size=10, known=12)
    assert refused.value.rule == "restore/subject"


def test_a_life_is_printed_with_what_it_has():
    for life in (Life(), Life(held=BACKUP), Life(above=(("crl-number", 2**150), ("gbcs-counter", 3)))):
        assert life_from_document(life_document(life)) == life
    assert not {"held", "above"} & set(life_document(Life().passed(Event.ORDER, NOW)))
