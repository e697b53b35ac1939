"""What a PKCS#11 return value means for the module and for the key in hand: one table.

Two questions decide everything. Is the module, or this session, still there? And may the key have been used? The
second depends on the call: before C_Sign nothing was signed, whatever the code; during C_Sign only codes that the
module gives *instead of* signing prove that it did not. No key operation is ever repeated.

Source: OASIS PKCS #11 Base Specification 3.0, section 5.1.6 (return values); codes that mean "the module is gone" as seen on
SoftHSM 2.6.1, NSS softokn 3.87 and p11-kit 0.24.
"""

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType

from cryptosvc.adapters.hsm.constants import Ckr
from cryptosvc.adapters.hsm.cryptoki import CryptokiError
from cryptosvc.core.errors import Corrupt, CryptosvcError, Forbidden, Internal, OutcomeUnknown, Unavailable


class Fault(Enum):
    """What a return value means."""

    GONE = "module, token or session is lost: reload, with back-off"
    STALE = "the handle is not known here: look the object up again"
    PIN = "the PIN was not accepted: never tried again"
    REFUSED = "the module declined this call and did nothing; it goes on working"
    RESOURCES = "the module has no room now and did nothing"
    UNCERTAIN = "the module cannot say what it did"


_GONE = (
    Ckr.DEVICE_ERROR,
    Ckr.DEVICE_REMOVED,
    Ckr.TOKEN_NOT_PRESENT,
    Ckr.TOKEN_NOT_RECOGNIZED,
    Ckr.SLOT_ID_INVALID,
    Ckr.SESSION_HANDLE_INVALID,
    Ckr.SESSION_CLOSED,
    Ckr.CRYPTOKI_NOT_INITIALIZED,
    Ckr.GENERAL_ERROR,
    Ckr.USER_NOT_LOGGED_IN,  # another process, or the HSM, logged the token out: a new login session is needed
)
_STALE = (
    Ckr.KEY_HANDLE_INVALID,
    Ckr.OBJECT_HANDLE_INVALID,
    Ckr.WRAPPING_KEY_HANDLE_INVALID,
    Ckr.UNWRAPPING_KEY_HANDLE_INVALID,
)
_PIN = (Ckr.PIN_INCORRECT, Ckr.PIN_INVALID, Ckr.PIN_LEN_RANGE, Ckr.PIN_EXPIRED, Ckr.PIN_LOCKED)
_REFUSED = (
    Ckr.ARGUMENTS_BAD,
    Ckr.CANT_LOCK,
    Ckr.ATTRIBUTE_READ_ONLY,
    Ckr.ATTRIBUTE_SENSITIVE,
    Ckr.ATTRIBUTE_TYPE_INVALID,
    Ckr.ATTRIBUTE_VALUE_INVALID,
    Ckr.ACTION_PROHIBITED,
    Ckr.DATA_INVALID,
    Ckr.DATA_LEN_RANGE,
    Ckr.FUNCTION_NOT_SUPPORTED,
    Ckr.FUNCTION_REJECTED,
    Ckr.KEY_SIZE_RANGE,
    Ckr.KEY_TYPE_INCONSISTENT,
    Ckr.KEY_FUNCTION_NOT_PERMITTED,
    Ckr.KEY_NOT_WRAPPABLE,
    Ckr.KEY_UNEXTRACTABLE,
    Ckr.WRAPPED_KEY_INVALID,
    Ckr.WRAPPED_KEY_LEN_RANGE,
    Ckr.WRAPPING_KEY_SIZE_RANGE,
    Ckr.WRAPPING_KEY_TYPE_INCONSISTENT,
    Ckr.UNWRAPPING_KEY_SIZE_RANGE,
    Ckr.UNWRAPPING_KEY_TYPE_INCONSISTENT,
    Ckr.MECHANISM_INVALID,
    Ckr.MECHANISM_PARAM_INVALID,
    Ckr.OPERATION_ACTIVE,
    Ckr.OPERATION_NOT_INITIALIZED,
    Ckr.SESSION_READ_ONLY,
    Ckr.TEMPLATE_INCOMPLETE,
    Ckr.TEMPLATE_INCONSISTENT,
    Ckr.TOKEN_WRITE_PROTECTED,
    Ckr.USER_PIN_NOT_INITIALIZED,
    Ckr.USER_ANOTHER_ALREADY_LOGGED_IN,
    Ckr.DOMAIN_PARAMS_INVALID,
    Ckr.CURVE_NOT_SUPPORTED,
    Ckr.CRYPTOKI_ALREADY_INITIALIZED,
)
_RESOURCES = (Ckr.HOST_MEMORY, Ckr.DEVICE_MEMORY, Ckr.SESSION_COUNT, Ckr.RANDOM_NO_RNG)
# CANCEL and FUNCTION_CANCELED come from a call that was stopped half way; FUNCTION_FAILED says nothing; a buffer
# that is too small for a P-256 signature means that the module made something else.
_UNCERTAIN = (Ckr.CANCEL, Ckr.FUNCTION_CANCELED, Ckr.FUNCTION_FAILED, Ckr.BUFFER_TOO_SMALL)

FAULTS: Mapping[int, Fault] = MappingProxyType(
    {
        int(code): fault
        for codes, fault in (
            (_GONE, Fault.GONE),
            (_STALE, Fault.STALE),
            (_PIN, Fault.PIN),
            (_REFUSED, Fault.REFUSED),
            (_RESOURCES, Fault.RESOURCES),
            (_UNCERTAIN, Fault.UNCERTAIN),
        )
        for code in codes
    }
)


def fault_of(code: int) -> Fault:
    """Meaning of a CK_RV other than CKR_OK; a code the table lacks, vendors' own included, is UNCERTAIN."""
    return FAULTS.get(code, Fault.UNCERTAIN)


def name_of(code: int) -> str:
    """`CKR_DEVICE_ERROR`, or the number of a code the table lacks."""
    try:
        return f"CKR_{Ckr(code).name}"
    except ValueError:
        return f"CKR {code:#x}"


def before_use(module: str, function: str, code: int) -> CryptosvcError:
    """The error of an item whose key was not used: a call before C_Sign failed."""
    what = f"module {module}: {function} returned {name_of(code)}"
    match fault_of(code):
        case Fault.GONE:
            return gone(module)
        case Fault.STALE:
            return Unavailable(f"{what}; the key object is not there now", rule="hsm/object-missing")
        case Fault.PIN:
            return pin_refused(module)
        case Fault.REFUSED:
            return Unavailable(
                f"{what}; the key was not used. Run `cryptosvc doctor` against this module",
                rule="hsm/call-refused",
            )
        case Fault.RESOURCES:
            return Unavailable(f"{what}; the key was not used, try again later", rule="hsm/no-room")
        case Fault.UNCERTAIN:
            return Unavailable(f"{what}; the key was not used", rule="hsm/call-failed")


def during_use(module: str, function: str, code: int) -> CryptosvcError:
    """The error of an item whose C_Sign failed: Unavailable only where the code proves that nothing was signed."""
    if fault_of(code) in (Fault.REFUSED, Fault.RESOURCES, Fault.STALE):
        return before_use(module, function, code)
    return OutcomeUnknown(
        f"module {module}: {function} returned {name_of(code)} while the key was in use, so it may have signed; "
        "look at the module's own log before the request is made again",
        rule="hsm/outcome-unknown",
    )


def stuck(module: str, seconds: float) -> OutcomeUnknown:
    """The error of an item whose C_Sign did not return in time."""
    return OutcomeUnknown(
        f"module {module}: a signature did not come back within {seconds:g} s; its session was given up",
        rule="hsm/call-stuck",
    )


def never_returned(module: str, seconds: float) -> Unavailable:
    """Why a module is not used any more by this process: a call is inside its library and does not come back."""
    return Unavailable(
        f"module {module}: a call has not come back for {seconds:g} s, so its library cannot be initialised again here; "
        "this worker leaves and another takes its place",
        rule="hsm/call-stuck",
    )


def gone(module: str, detail: str = "") -> Unavailable:
    """The module is out of reach."""
    return Unavailable(
        f"module {module} is out of reach{f' ({detail})' if detail else ''}; no key was used, and the service takes it "
        "up again by itself once it is back",
        rule="hsm/gone",
    )


def pin_refused(module: str) -> Unavailable:
    """The PIN was refused; it will not be tried again."""
    return Unavailable(
        f"module {module} refused the PIN, and it is not tried again, so that the token is not locked; "
        "put the right PIN into the PIN source",
        rule="hsm/pin-refused",
    )


def translated(module: str, error: CryptokiError, *, doing: str) -> CryptosvcError:
    """Our error for a PKCS#11 error outside the signing path (provisioning, opening, reading).

    Args:
        module: configured name of the module.
        error: what the library returned.
        doing: what was attempted, as `generating key oca-root`.

    """
    what = f"module {module}: {doing} failed, {error.function} returned {name_of(error.code)}"
    match fault_of(error.code):
        case Fault.GONE:
            return gone(module, f"{error.function} returned {name_of(error.code)}")
        case Fault.PIN:
            return pin_refused(module)
        case Fault.STALE:
            return Corrupt(f"{what}; the object went away meanwhile", rule="hsm/object-missing")
        case Fault.REFUSED:
            return Forbidden(f"{what}; the module does not do this", rule="hsm/call-refused")
        case Fault.RESOURCES:
            return Unavailable(what, rule="hsm/no-room")
        case Fault.UNCERTAIN:
            return Internal(what, rule="hsm/call-failed")
