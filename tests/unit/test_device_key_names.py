"""Device keys by name and by row: read only as printed, and bound to what they say they are."""

from dataclasses import replace

import pytest

from cryptosvc.core.device_keys import (
    DeviceKey,
    DeviceKeyName,
    RowState,
    is_device_key,
    row_document,
    row_from_document,
)
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import Eui64, KeyId, SystemName

DEVICE = Eui64.parse("90-B3-D5-1F-30-01-00-00")
ROW = DeviceKey(
    device=DEVICE,
    kind="encryption",
    version=2,
    state=RowState.CURRENT,
    system=SystemName("dcc-test"),
    manufacturer="maker",
    model="m1",
    firmware="1.0",
    wrapping=KeyId("epoch-1"),
    binding=KeyId("binding-1"),
    check_value=b"\x01\x02\x03",
    blob=bytes(24),
    work="import-1",
    tag=bytes(32),
)


@pytest.mark.parametrize("text", [f"{DEVICE}.encryption", f"{DEVICE}.hls-secret", f"{DEVICE}.encryption.12"])
def test_a_name_is_read_as_it_is_printed(text: str) -> None:
    assert str(DeviceKeyName.parse(KeyId(text))) == text
    assert is_device_key(text)


@pytest.mark.parametrize(
    "text",
    [
        f"{DEVICE}",
        f"{DEVICE}.",
        f"{DEVICE}.Encryption",
        f"{DEVICE}.encryption.0",
        f"{DEVICE}.encryption.01",
        f"{DEVICE}.encryption.1.2",
        f"{DEVICE}.encryption.",
        f"{str(DEVICE).lower()}.encryption",
        "supplier-1",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(Malformed):
        DeviceKeyName.parse(KeyId(text))


def test_an_ordinary_key_id_is_none_of_a_device() -> None:
    assert not is_device_key("supplier-1")
    assert not is_device_key("90-B3-D5-1F-30-01-00-00")


def test_versions_of_a_key_share_a_slot_and_keys_do_not() -> None:
    name = DeviceKeyName(DEVICE, "encryption", 1)
    assert name.slot == replace(name, version=2).slot
    assert name.slot != replace(name, kind="authentication").slot


def test_a_row_is_read_only_as_it_is_printed() -> None:
    document = row_document(ROW)
    assert row_from_document(document) == ROW
    for name in document:
        with pytest.raises(Malformed):
            row_from_document({key: value for key, value in document.items() if key != name})
        with pytest.raises(Malformed):
            row_from_document(document | {name: None})
    with pytest.raises(Malformed):
        row_from_document(document | {"blob": ROW.blob.hex().upper() + "AB"})


@pytest.mark.parametrize(
    "changed",
    [
        {"device": Eui64(bytes(8))},
        {"kind": "authentication"},
        {"version": 3},
        {"system": SystemName("other")},
        {"wrapping": KeyId("epoch-2")},
        {"binding": KeyId("binding-2")},
        {"check_value": bytes(3)},
        {"blob": b"\x01" * 24},
    ],
)
def test_the_tag_is_over_all_that_makes_the_key_this_one(changed: dict[str, object]) -> None:
    other = replace(ROW, **changed)  # type: ignore[arg-type]  # a test's table of keywords
    assert other.bound != ROW.bound
    assert other.digest != ROW.digest
