"""No key and no module comes into the register, or stays in it, without classification and responsible person.

Covers SEC G5.6 (classification of assets) and G5.21 (a person who answers for each).
"""

from dataclasses import replace

import pytest

from cryptosvc.core.asset import module_document
from cryptosvc.core.canonical import JsonValue
from cryptosvc.core.errors import Malformed
from cryptosvc.core.life import Asset
from tests.govern_stand import ORDER, Stand
from tests.governance import MODULE

MISSING = [("classification", ""), ("classification", "  "), ("responsible", "")]


async def refused(here: Stand, act: str, subject: str, field: str, **parameters: JsonValue) -> None:
    with pytest.raises(Malformed) as found:
        await here.propose(here.statement(act, subject, **parameters))
    assert (found.value.rule, found.value.field) == ("asset/incomplete", field)


@pytest.mark.parametrize(("field", "value"), MISSING)
async def test_no_key_is_ordered_registered_or_labelled_without_it(field: str, value: str):
    here = await Stand().begin()
    await refused(here, "key.order", "key-1", field, **{**ORDER, field: value})
    adopted = {**ORDER, "object_label": "there", "object_id": "09", field: value}
    await refused(here, "key.register", "key-1", field, **adopted)
    await here.ordered("key-1")
    await refused(here, "key.label", "key-1", field, **{field: value})
    await here.carry("key.label", "key-1", label="")
    assert here.key("key-1").asset == Asset(label="", classification="secret", responsible="Ada")


@pytest.mark.parametrize(("field", "value"), MISSING)
async def test_no_module_is_entered_without_it(field: str, value: str):
    here = await Stand().begin()
    bare = replace(MODULE, asset=replace(MODULE.asset, **{field: value}))
    await refused(here, "module.register", "soft", field, record=module_document(bare))
    await here.carry("module.register", "soft", record=module_document(MODULE))
