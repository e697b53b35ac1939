"""Names and errors: one text form per identifier, one reason per class, no secret in a message."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cryptosvc.core import errors, names
from cryptosvc.core.errors import CryptosvcError, Malformed, Reason, Refusal, Repeated
from cryptosvc.core.names import Eui64

EUI = "90-B3-D5-1F-30-01-00-00"


@given(st.binary(min_size=8, max_size=8))
def test_an_eui_64_reads_what_it_prints(octets):
    made = Eui64(octets)
    assert Eui64.parse(str(made)) == made
    assert len(str(made)) == 23


@given(st.text(max_size=30))
def test_text_that_is_read_as_an_eui_64_is_what_it_prints(text):
    try:
        made = Eui64.parse(text)
    except Malformed:
        return
    assert str(made) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        EUI.lower(),
        EUI.replace("-", ""),
        EUI.replace("-", ":"),
        EUI[:-1],
        EUI + "0",
        EUI + "-00",
        EUI[:-3],
        " " + EUI,
        EUI + "\n",
        "9-0B3-D5-1F-30-01-00-00",
        "90-B3-D5-1F-30-01-00-0G",
        "90--B3-D5-1F-30-01-00-00",
        "90-B3-D5-1F-30-01-00-0\u0660",
        "90 B3 D5 1F 30 01 00 00",
    ],
)
def test_every_other_form_of_an_eui_64_is_malformed(text):
    with pytest.raises(Malformed) as refusal:
        Eui64.parse(text)
    assert refusal.value.rule == "eui64/text"


@pytest.mark.parametrize("size", [0, 7, 9, 16])
def test_an_eui_64_has_eight_octets(size):
    with pytest.raises(Malformed) as refusal:
        Eui64(bytes(size))
    assert refusal.value.rule == "eui64/length"


def test_eui_64s_sort_as_their_octets():
    values = [bytes([n] * 8) for n in (255, 0, 127, 128)]
    assert [one.octets for one in sorted(map(Eui64, values))] == sorted(values)


def test_remote_party_roles_have_their_published_codes():
    assert {role.name: role.value for role in names.RemotePartyRole} == {
        "ROOT": 0,
        "RECOVERY": 1,
        "SUPPLIER": 2,
        "NETWORK_OPERATOR": 3,
        "ACCESS_CONTROL_BROKER": 4,
        "TRANSITIONAL_COS": 5,
        "WAN_PROVIDER": 6,
        "ISSUING_AUTHORITY": 7,
        "LOAD_CONTROLLER": 8,
        "OTHER": 127,
        "XML_SIGN": 135,
        "DSP_XML_SIGN": 137,
    }


def test_there_is_no_raw_and_no_digest_form():
    assert {form.value for form in names.ContentForm}.isdisjoint(
        {"raw", "digest", "hash", "prehashed", "bytes", "data"}
    )


# --- errors ----------------------------------------------------------------------------------------------------------


def classes(base: type = CryptosvcError) -> list[type]:
    return [base, *(one for below in base.__subclasses__() for one in classes(below))]


def test_every_error_in_the_module_is_in_the_one_tree():
    found = {one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, Exception)}
    assert found == set(classes()) & found
    assert found >= {errors.Malformed, errors.OutcomeUnknown, errors.Corrupt, errors.Repeated}


def test_every_reason_has_exactly_one_class_of_its_own():
    own = [one.reason for one in classes()[1:] if "reason" in vars(one)]
    assert sorted(own) == sorted(Reason)


def test_repeated_is_a_conflict_and_knows_the_first_receipt():
    error = Repeated(same_bytes=True, leaf_index=7, leaf_hash=b"h" * 32)
    assert error.reason is Reason.CONFLICT
    assert (error.rule, error.field) == ("request-id/repeated", "request_id")
    assert (error.same_bytes, error.leaf_index, error.leaf_hash) == (True, 7, b"h" * 32)


def test_outcome_unknown_and_corrupt_are_no_refusals():
    # A refusal says that nothing was done; these two cannot say it.
    for one in (errors.OutcomeUnknown, errors.Corrupt, errors.Internal):
        assert not issubclass(one, Refusal)
    for one in (errors.Malformed, errors.Forbidden, errors.WrongState, errors.Unavailable, errors.Busy):
        assert issubclass(one, Refusal)


def test_an_error_says_its_message_and_keeps_its_rule():
    error = errors.Forbidden("no", rule="a/b", clause="G2.60", field="key_id", policies=("p",))
    assert (str(error), error.rule, error.clause, error.field, error.policies) == (
        "no",
        "a/b",
        "G2.60",
        "key_id",
        ("p",),
    )
