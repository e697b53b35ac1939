"""The Command that is to be given its MAC by the Access Control Broker's key, held against everybody it names.

    parse   the Command, read as before signing; its signature verified under a registered certificate of its originator,
            whose role signs this message code; the Device's certificate is of its target, for key agreement, chained
    bind    the key is that of the Access Control Broker; every certificate is in force now; the statement is about it

What is promised to the claim: under one key, originator, target, counter and CRA only ever these bytes, since key and
initialisation vector of the MAC depend on nothing else. The same bytes again give the same answer.

Source: SEC G2.44(b); GBCS 0.8.1 6.4.5; see `mac`, `parties`, `precommand`.
"""

from dataclasses import dataclass

from cryptosvc.core.content.base import Content, Statement
from cryptosvc.core.content.gbcs import mac
from cryptosvc.core.content.gbcs.agreed import AgreedContent, Task, require_all_in_force
from cryptosvc.core.content.gbcs.mac import Command
from cryptosvc.core.content.gbcs.parties import DEVICE_FIELD, Parties, verifies
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.content.gbcs.senders import may_send
from cryptosvc.core.content.x509 import signer
from cryptosvc.core.content.x509.identity import CertificateFacts
from cryptosvc.core.errors import Forbidden, Internal, Malformed
from cryptosvc.core.names import ContentKind, RemotePartyRole, UnixNanoseconds, UserRole
from cryptosvc.core.registry import KeyRecord
from cryptosvc.core.values import quickly

CLAUSE = "G2.44(b)"


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandContent(AgreedContent):
    """A Command that may be given its MAC, once it is bound to a key.

    `signed_bytes` is the APDU that the MAC is over.

    Args:
        command: as read.
        originator: what the certificate says under which the signature verified; None for a Command without one.

    """

    command: Command
    originator: CertificateFacts | None


# Made for every Command of a batch: see `quickly`.
_content, _task = quickly(CommandContent), quickly(Task)


def parse(
    payload: bytes, device_certificate: bytes, profile: GbcsProfile, parties: Parties
) -> CommandContent:
    """Read a Command and what comes beside it.

    Args:
        payload: Signed Pre-Command, or for a code that is not critical the unsigned Command.
        device_certificate: DER of the target's key agreement certificate.
        profile: who is an Access Control Broker.
        parties: known certificates.

    Raises:
        Malformed: as `mac.parse`, or the certificate cannot be read.
        Forbidden: the certificate is not the target's; nobody registered signed this; the signer's role does not.

    """
    command = mac.parse(payload, profile)
    device = parties.device(device_certificate, command.agreement.recipient)
    originator = _signer(command, parties) if command.signature else None
    if originator is None:
        _require_known(command, profile, parties)
    read = command.pre_command
    facts = dict(read.facts) | {
        "device_chain": "checked" if parties.chained else "not-checked",
        "originator_signature": "verified" if command.signature else "none",
    }
    return _content(
        kind=ContentKind.GBCS_COMMAND,
        signed_bytes=command.inner,
        facts=tuple(sorted(facts.items())),
        promises=(command.promise,),
        service_reference_variants=read.service_reference_variants,
        command=command,
        device=device,
        tasks=(_task(command.agreement, command.additional),),
        originator=originator,
    )


def bind(
    content: Content, key: KeyRecord, statement: Statement, profile: GbcsProfile, at: UnixNanoseconds
) -> None:
    """Refuse unless this key may give this very Command its MAC now.

    Raises:
        Forbidden: the key is not the Access Control Broker's, or its certificate says other than its record.
        WrongState: the certificate of key, Device or originator is not in force.
        Malformed: the statement contradicts the message.

    """
    if not isinstance(content, CommandContent):
        raise Internal("not the content of a Command", rule="gbcs/content")
    # 1 the key is the broker's
    if (
        key.eui64 not in profile.access_control_brokers
        or key.role is not RemotePartyRole.ACCESS_CONTROL_BROKER
    ):
        raise _forbidden(
            "MACs of Commands are made with the Access Control Broker's key", "gbcs/not-the-broker"
        )
    signer.require_organisation(key)
    # 2 everybody's certificate is in force
    signer.require_in_force(key, at)
    require_all_in_force(
        (
            (content.device, "the Device's", DEVICE_FIELD),
            (content.originator, "the originator's", mac.COMMAND_FIELD),
        ),
        at,
        CLAUSE,
    )
    # 3 what is said beside the message is about the message
    _check_statement(content, statement)


def assemble(content: Content, made: bytes, _key: KeyRecord) -> bytes:
    """Write the finished Command: wrapper, what was read, MAC (12 octets)."""
    if not isinstance(content, CommandContent):
        raise Internal("not the content of a Command", rule="gbcs/content")
    return mac.assemble(content.command, made)


def _signer(command: Command, parties: Parties) -> CertificateFacts:
    """Find the registered certificate under which the signature verifies, whose role signs such a message."""
    read = command.pre_command
    for facts in parties.organisations.get(command.agreement.initiator, ()):
        if verifies(facts.public_point, command.signature, read.signed_bytes):
            octets = None if facts.role is None else read.code.signers.get(facts.role)
            if octets != read.other_info_octets:
                raise _forbidden(
                    f"a party of this role does not sign {read.code.use_case} ({read.code.text}) in this form",
                    "gbcs/role",
                )
            return facts
    raise _forbidden(
        "the signature verifies under no registered certificate of the originator", "gbcs/inner-signature"
    )


def _require_known(command: Command, profile: GbcsProfile, parties: Parties) -> None:
    """A Command without a signature is still from somebody: the broker, or a registered Organisation that may send it."""
    sender = command.agreement.initiator
    if sender in profile.brokers:
        return
    known = parties.organisations.get(sender, ())
    if not known:
        raise _forbidden("the originator of the Command is no registered party", "gbcs/unknown-originator")
    read = command.pre_command
    if not any(
        facts.role is not None and may_send(facts.role, read.service_reference_variants) for facts in known
    ):
        raise _forbidden(
            f"no User of the originator's role may send {read.code.use_case} ({read.code.text})",
            "gbcs/not-eligible",
        )


def _check_statement(content: CommandContent, statement: Statement) -> None:
    read = content.command.pre_command
    variants = read.service_reference_variants
    variant = statement.service_reference_variant
    if variant not in variants and (variant or variants):
        raise Malformed(
            f"{read.code.use_case} from this originator is of Service Reference Variant "
            f"{' or '.join(variants) or 'none'}; state it",
            rule="gbcs/service-reference-variant",
            field="service_reference_variant",
        )
    if statement.user_id and statement.user_id != (read.supplementary_party or read.originator):
        raise Malformed(
            "the User ID stated is not the party this message is from", rule="gbcs/user-id", field="user_id"
        )
    if statement.user_role not in ("", UserRole.DCC):
        raise Forbidden(
            "MACs of Commands are the DCC's to make; state its role or none",
            rule="gbcs/user-role",
            clause=CLAUSE,
            field="user_role",
        )


def _forbidden(message: str, rule: str, field: str = mac.COMMAND_FIELD) -> Forbidden:
    return Forbidden(message, rule=rule, clause=CLAUSE, field=field)
