"""The table of PKCS#11 return values: what may be retried, what may not, and what is never said."""

import pytest

from cryptosvc.adapters.hsm import faults
from cryptosvc.adapters.hsm.constants import Ckm, Ckr
from cryptosvc.adapters.hsm.cryptoki import CryptokiError
from cryptosvc.adapters.hsm.faults import Fault
from cryptosvc.adapters.hsm.mechanisms import ROWS, Capability, check, require
from cryptosvc.core.errors import OutcomeUnknown, Refusal, Unavailable

FAILURES = [code for code in Ckr if code is not Ckr.OK]
VENDOR = 0x8000_0001
# hsm.md hazard 9: these mean that the module is gone.
GONE = (
    Ckr.DEVICE_ERROR,
    Ckr.DEVICE_REMOVED,
    Ckr.TOKEN_NOT_PRESENT,
    Ckr.TOKEN_NOT_RECOGNIZED,
    Ckr.SESSION_HANDLE_INVALID,
    Ckr.SESSION_CLOSED,
    Ckr.CRYPTOKI_NOT_INITIALIZED,
    Ckr.GENERAL_ERROR,
)


def test_every_failure_but_a_second_login_has_a_row():
    assert {int(code) for code in FAILURES} - set(faults.FAULTS) == {Ckr.USER_ALREADY_LOGGED_IN}


@pytest.mark.parametrize("code", GONE)
def test_what_means_gone_is_gone(code):
    assert faults.fault_of(code) is Fault.GONE


@pytest.mark.parametrize("code", [*FAILURES, VENDOR])
def test_before_use_the_key_was_not_used_whatever_the_code(code):
    assert isinstance(faults.before_use("m", "C_SignInit", code), Unavailable)


@pytest.mark.parametrize(
    "code", [*GONE, Ckr.FUNCTION_FAILED, Ckr.FUNCTION_CANCELED, Ckr.CANCEL, VENDOR, 0x7FFF]
)
def test_during_use_a_code_that_does_not_prove_otherwise_leaves_the_outcome_unknown(code):
    assert isinstance(faults.during_use("m", "C_Sign", code), OutcomeUnknown)


@pytest.mark.parametrize("code", [Ckr.DATA_LEN_RANGE, Ckr.KEY_FUNCTION_NOT_PERMITTED, Ckr.DEVICE_MEMORY])
def test_during_use_a_refusal_proves_that_nothing_was_signed(code):
    assert isinstance(faults.during_use("m", "C_Sign", code), Unavailable)


@pytest.mark.parametrize("code", [*FAILURES, VENDOR])
def test_translated_errors_name_module_and_code_but_never_escape_as_foreign(code):
    error = faults.translated("m", CryptokiError("C_GenerateKeyPair", code), doing="generating key k")
    assert error.rule.startswith("hsm/")
    assert "m" in error.message


def test_gone_and_refused_pins_are_refusals_a_caller_may_see():
    assert isinstance(faults.gone("m"), Refusal)
    assert isinstance(faults.pin_refused("m"), Refusal)


def test_a_module_without_ecdsa_is_not_used():
    with pytest.raises(Unavailable) as caught:
        require("m", {Ckm.SHA256_HMAC})
    assert caught.value.rule == "hsm/mechanism-missing"
    require("m", {Ckm.ECDSA})


def test_every_capability_has_one_row_and_the_first_mechanism_there_is_the_one_used():
    assert {row.capability for row in ROWS} == set(Capability)
    found = {
        finding.row.capability: finding.mechanism for finding in check({Ckm.ECDSA, Ckm.AES_KEY_WRAP_PAD})
    }
    assert found[Capability.SIGN_P256] is Ckm.ECDSA
    assert found[Capability.WRAP_KEYS] is Ckm.AES_KEY_WRAP_PAD
    assert found[Capability.CMAC] is None
    both = {Ckm.AES_KEY_WRAP_PAD, Ckm.AES_KEY_WRAP_KWP}
    assert {f.mechanism for f in check(both) if f.row.capability is Capability.WRAP_KEYS} == {
        Ckm.AES_KEY_WRAP_KWP
    }
