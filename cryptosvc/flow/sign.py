"""Sign: the corridor, walked once by a batch. A unary call is a batch of one; items succeed or fail one by one.

See docs/request-path.md for the drawing. Nothing here decides: every step hands what the step before made to the
one floor that can take it, and each type can only be made by the step before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from cryptosvc.core.case import Case, Principal, Request
from cryptosvc.core.check import Checked, check
from cryptosvc.core.content import forms
from cryptosvc.core.content.base import Content
from cryptosvc.core.errors import Busy, Corrupt, CryptosvcError, Refusal
from cryptosvc.core.judge import Authorised, judge
from cryptosvc.core.names import Operation
from cryptosvc.core.record import Claim, Failed, Produced, Receipt, Refused
from cryptosvc.flow.gather import Gatherer
from cryptosvc.flow.ports import Hsm, Ledger, Policy, Stale

JUDGED_AGAIN_AT_MOST = 4


@dataclass(frozen=True, slots=True)
class Signed:
    """An item that was signed and recorded."""

    checked: Checked
    receipt: Receipt


@dataclass(frozen=True, slots=True)
class NotSigned:
    """An item that was not signed, and the record that says so."""

    error: CryptosvcError
    receipt: Receipt
