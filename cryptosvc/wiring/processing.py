"""`mac`, `verify-mac`, `decrypt` and `smets1` as a caller of the service."""

from collections.abc import Mapping

from cryptosvc.cli.actions import Connection, Document
from cryptosvc.cli.processing import Asked, Call, Processed
from cryptosvc.client import messages
from cryptosvc.client.messages import Method, request
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import ContentForm
from cryptosvc.pb.v1 import crypto_pb2
from cryptosvc.wiring.calls import client_of, explanation, receipt_document

_METHODS: Mapping[Call, Method[crypto_pb2.SignRequest, crypto_pb2.SignResponse]] = {
    Call.APPLY_MAC: messages.APPLY_MAC,
    Call.VERIFY_MAC: messages.VERIFY_MAC,
    Call.DECRYPT: messages.DECRYPT,
    Call.ENCRYPT: messages.ENCRYPT,
    Call.WRAP_KEY: messages.WRAP_KEY,
}
_GBCS = frozenset(
    {
        ContentForm.GBCS_COMMAND,
        ContentForm.GBCS_MESSAGE,
        ContentForm.ENCRYPTED_RESPONSE,
        ContentForm.TOP_UP,
    }
)


class Processing:
    """Implements `cli.processing.Processing`."""

    def ask(self, connection: Connection, asked: Asked) -> Processed:
        """Have it done."""
        question = _question(asked)
        with client_of(connection) as client:
            answer = client.call(_METHODS[asked.call], question)
        return Processed(
            artefact=answer.artefact,
            mac=answer.signature,
            plaintexts=tuple(answer.plaintexts),
            association=answer.association,
            derivation=answer.derivation,
            clause=answer.clause,
            request_id=question.request_id,
            receipt=receipt_document(answer.receipt),
        )

    def explain(self, connection: Connection, asked: Asked) -> Document:
        """Ask whether it would be done."""
        with client_of(connection) as client:
            return explanation(client.explain(_question(asked)))


def _question(asked: Asked) -> crypto_pb2.SignRequest:
    question = request(
        asked.key_id,
        device_certificate=asked.device_certificate,
        request_id=asked.request_id,
        service_reference_variant=asked.statement.service_reference_variant,
        user_id=asked.statement.user_id,
        user_role=asked.statement.user_role,
    )
    if asked.form in _GBCS:
        setattr(question, asked.form.value, asked.payload)
        return question
    getattr(question, asked.form.value).CopyFrom(_of_device(asked))
    return question


def _of_device(
    asked: Asked,
) -> crypto_pb2.DlmsPlaintext | crypto_pb2.DlmsProtected | crypto_pb2.DlmsKeyChange | crypto_pb2.DlmsInitiate:
    beside = asked.dlms
    try:
        if asked.form is ContentForm.DLMS_KEY_CHANGE:
            return messages.key_change(beside.kind, beside.version)
        version = beside.authentication_key_version
        if asked.form is ContentForm.DLMS_PROTECTED:
            return messages.protected(
                beside.system_title,
                asked.payload,
                authentication_key_version=version,
                association=beside.association,
            )
        if asked.form is ContentForm.DLMS_ASSOCIATION:
            return messages.initiate(
                beside.system_title, beside.counter, asked.payload, authentication_key_version=version
            )
        return messages.plaintext(
            beside.system_title,
            beside.counter,
            asked.payload,
            authentication_key_version=version,
            association=beside.association,
        )
    except ValueError:
        raise Malformed(
            "counters and versions are below 2^32", rule="dlms/counter", field=asked.form.value
        ) from None
