"""Copies of a key: each has a name, and each is accounted for when the key is destroyed (G5.13)."""

from dataclasses import replace

import pytest

from cryptosvc.core.copies import accounts, require_accounted
from cryptosvc.core.errors import CryptosvcError, Forbidden, Malformed
from cryptosvc.core.life import Life, life_document, life_from_document
from cryptosvc.core.registry import KeyState
from tests.unit.test_split_keys import ALL, stand_with

EVIDENCE = "0a" * 32
BOTH = "tape-7: Wim saw it shredded; tape-8: Wanda saw it shredded"


async def backed_up():
    stand, _ = await stand_with()
    for copy in ("tape-8", "tape-7"):
        await stand.carry("key.back-up", "key-1", ALL, copy=copy, place="the safe", evidence=EVIDENCE)
    await stand.carry("key.deactivate", "key-1", ALL)
    return stand


async def test_every_copy_is_accounted_for_and_the_log_derives_it():
    stand = await backed_up()
    assert stand.key("key-1").life.backups == ("tape-7", "tape-8")
    await stand.carry("key.destroy", "key-1", ALL, backups_destroyed=BOTH)
    assert stand.key("key-1").state is KeyState.DESTROYED
    assert stand.replay().records == stand.ledger.records


@pytest.mark.parametrize(
    ("said", "rule"),
    [
        ({}, "destruction/backups"),
        ({"backups_destroyed": "tape-7: shredded"}, "destruction/backups"),
        ({"backups_destroyed": f"{BOTH}; tape-9: shredded"}, "destruction/backups"),
        ({"backups_destroyed": "all of them were shredded"}, "destruction/accounts"),
        ({"backups_destroyed": "tape-7: shredded; tape-7: burnt"}, "destruction/accounts"),
        ({"backups_destroyed": "tape-7: ; tape-8: shredded"}, "destruction/accounts"),
    ],
)
async def test_a_key_of_which_a_copy_is_left_is_not_destroyed(said, rule):
    stand = await backed_up()
    with pytest.raises(CryptosvcError) as caught:
        await stand.carry("key.destroy", "key-1", ALL, **said)
    assert (caught.value.rule, caught.value.clause) == (rule, "G5.13(b)")
    assert stand.key("key-1").state is KeyState.DEACTIVATED


async def test_a_key_that_nobody_backed_up_has_no_copies_to_account_for():
    stand, _ = await stand_with(active=False)
    with pytest.raises(Forbidden) as caught:
        await stand.carry("key.destroy", "key-1", ALL, backups_destroyed="tape-7: shredded")
    assert caught.value.rule == "destruction/backups"


async def test_two_copies_of_one_name_are_refused():
    stand, _ = await stand_with()
    named = {"copy": "tape-7", "place": "the safe", "evidence": EVIDENCE}
    await stand.carry("key.back-up", "key-1", ALL, **named)
    with pytest.raises(Forbidden) as caught:
        await stand.carry("key.back-up", "key-1", ALL, **named)
    assert caught.value.rule == "key/copy-name"


def test_accounts_are_read():
    assert accounts("") == {}
    assert accounts(BOTH) == {"tape-7": "Wim saw it shredded", "tape-8": "Wanda saw it shredded"}
    require_accounted((), "")
    with pytest.raises(Malformed):
        accounts(f"{BOTH};")


def test_a_life_without_copies_is_printed_as_before_there_were_any():
    assert "backups" not in life_document(Life())
    life = replace(Life(), backups=("tape-7", "tape-8"))
    assert life_from_document(life_document(life)) == life
    assert life_from_document(life_document(Life())) == Life()
