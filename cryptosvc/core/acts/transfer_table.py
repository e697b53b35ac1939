"""The rows of acts on transfers of keys: what each takes, how it is said, and what it does.

Source: Smart Energy Code G2.22F to G2.22I.
"""

from cryptosvc.core.acts import transfer_destination as destination
from cryptosvc.core.acts import transfer_source as source
from cryptosvc.core.acts.base import Act, Kind, Parameter, Sentence
from cryptosvc.core.acts.transfer_devices import STORE, work_name
from cryptosvc.core.acts.transfer_steps import key_names
from cryptosvc.core.device_records import WorkKind
from cryptosvc.core.life import Event

_KEYS = "G2.22G"
_APPROVED = "G2.22I(a)"
_CONDITIONS = "G2.22I(b)(i)"
_SCOPE = Parameter(
    "scope", Kind.DOCUMENT, "`keys` that move and `approved_by`, the SMKI PMA's approvers: sorted ids"
)
_ATTENDED = Parameter(
    "attended",
    Kind.DOCUMENT,
    "`witnesses` present, and `attested`: each condition and the person who attests it",
)
_DESTINATION_KEY = Parameter(
    "destination_key", Kind.HEX, "SubjectPublicKeyInfo of the destination's service-signing key"
)
RECEIVE, RELEASE = WorkKind.RECEIVE, WorkKind.RELEASE
_TOGETHER = 3
"""As many people as the class that asks most: a transfer may hold keys of every class."""

TRANSFER_ACTS = (
    Act(
        name="transfer.offer",
        clause=_KEYS,
        after=destination.offer,
        touches_module=True,
        least_people=2,
        parameters=(
            Parameter("module", Kind.NAME, "module that is to receive keys"),
            Parameter("service_key", Kind.HEX, "SHA-256 of this deployment's service-signing public key"),
            Parameter("complies", Kind.TEXT, "how this system complies with Section G (G2.22I(b)(ii))"),
            Parameter(
                "affiliation",
                Kind.TEXT,
                "that the providers are not affiliated, or why not asked (G2.22B(e))",
            ),
            Parameter("valid_until", Kind.DATE, "the offer ends then"),
        ),
        sentence=Sentence(
            "Make a transport key on module {module} and offer to receive keys in transfer {subject}."
        ),
    ),
    Act(
        name="transfer.propose",
        clause="G2.22F",
        after=source.propose,
        looks_at=key_names,
        least_people=2,
        parameters=(
            Parameter("offer", Kind.HEX, "the destination's offer, a DSSE envelope"),
            _DESTINATION_KEY,
            Parameter("plan", Kind.HEX, "what moves, why, where to and how: canonical JSON"),
        ),
        sentence=Sentence("Ask the SMKI PMA to approve transfer {subject} of keys to another system."),
    ),
    Act(
        name="transfer.approve",
        clause=_APPROVED,
        after=source.approve,
        looks_at=key_names,
        least_people=2,
        parameters=(Parameter("approval", Kind.HEX, "the SMKI PMA's approval, a DSSE envelope"), _SCOPE),
        sentence=Sentence("Take in the SMKI PMA's approval of transfer {subject}."),
    ),
    Act(
        name="transfer.export",
        clause=_CONDITIONS,
        event=Event.EXPORT,
        after=source.export,
        touches_module=True,
        looks_at=lambda statement: (*key_names(statement), STORE),
        looks_at_every="proposal-record",
        least_people=_TOGETHER,
        parameters=(Parameter("approval", Kind.HEX, "the approval again"), _SCOPE, _ATTENDED),
        sentence=Sentence("Export the keys of transfer {subject}: from then on they do nothing here."),
    ),
    Act(
        name="transfer.import",
        clause=_CONDITIONS,
        event=Event.IMPORT,
        after=destination.receive,
        touches_module=True,
        looks_at=lambda statement: (*key_names(statement), work_name(statement, RECEIVE)),
        looks_at_every="proposal-record",
        least_people=_TOGETHER,
        parameters=(
            Parameter("package", Kind.HEX, "manifest of the package, a DSSE envelope"),
            Parameter("source_key", Kind.HEX, "SubjectPublicKeyInfo of the source's service-signing key"),
            _SCOPE,
            _ATTENDED,
        ),
        sentence=Sentence("Import the keys of transfer {subject}: from then on they are used here."),
    ),
    Act(
        name="transfer.receipt",
        clause=_CONDITIONS,
        after=source.receipt,
        least_people=2,
        parameters=(
            Parameter("receipt", Kind.HEX, "the destination's receipt, a DSSE envelope"),
            _DESTINATION_KEY,
            Parameter("package", Kind.HEX, "digest of the package that was signed here"),
        ),
        sentence=Sentence("Take in the destination's receipt for transfer {subject}."),
    ),
    Act(
        name="transfer.dispose",
        clause=_CONDITIONS,
        event=Event.RELINQUISH,
        after=source.dispose,
        touches_module=True,
        looks_at=lambda statement: (*key_names(statement), work_name(statement, RELEASE)),
        least_people=_TOGETHER,
        parameters=(_SCOPE,),
        sentence=Sentence(
            "Dispose of this system's copies of the keys of transfer {subject}, as was approved."
        ),
    ),
    Act(
        name="transfer.abort",
        clause=_CONDITIONS,
        after=source.abort,
        parameters=(),
        sentence=Sentence("Give up transfer {subject}; nothing was exported."),
    ),
    Act(
        name="transfer.decline",
        clause=_CONDITIONS,
        after=destination.decline,
        touches_module=True,
        least_people=2,
        parameters=(),
        sentence=Sentence(
            "Destroy the transport key of transfer {subject}; nothing is imported under it, ever."
        ),
    ),
    Act(
        name="transfer.roll-back",
        clause=_CONDITIONS,
        event=Event.RETURN,
        after=source.roll_back,
        looks_at=key_names,
        least_people=_TOGETHER,
        parameters=(
            Parameter(
                "not_imported", Kind.HEX, "the destination's notice that nothing was imported", required=False
            ),
            Parameter(
                "destination_key",
                Kind.HEX,
                "SubjectPublicKeyInfo of the key that signed the notice",
                required=False,
            ),
            Parameter(
                "decision", Kind.HEX, "instead: the SMKI PMA's decision, a DSSE envelope", required=False
            ),
            _SCOPE,
        ),
        sentence=Sentence(
            "Take the keys of transfer {subject} back, suspended: the package will never be opened."
        ),
    ),
)
