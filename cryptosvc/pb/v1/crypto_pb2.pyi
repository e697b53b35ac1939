from cryptosvc.pb.v1 import types_pb2 as _types_pb2
from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SignRequest(_message.Message):
    __slots__ = ("request_id", "key_id", "tbs_certificate", "certification_request_info", "tbs_cert_list", "gbcs_pre_command", "duis_document", "gbcs_command", "gbcs_message", "encrypted_response", "prepayment_token", "tls_server_key_exchange", "tls_transcript", "dlms_authenticated_encryption", "dlms_encryption", "dlms_authentication", "dlms_challenge", "dlms_protected", "dlms_key_change", "dlms_association", "service_reference_variant", "user_id", "user_role", "supply_sensitive_check", "origin_statement", "device_certificate")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    TBS_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATION_REQUEST_INFO_FIELD_NUMBER: _ClassVar[int]
    TBS_CERT_LIST_FIELD_NUMBER: _ClassVar[int]
    GBCS_PRE_COMMAND_FIELD_NUMBER: _ClassVar[int]
    DUIS_DOCUMENT_FIELD_NUMBER: _ClassVar[int]
    GBCS_COMMAND_FIELD_NUMBER: _ClassVar[int]
    GBCS_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ENCRYPTED_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    PREPAYMENT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TLS_SERVER_KEY_EXCHANGE_FIELD_NUMBER: _ClassVar[int]
    TLS_TRANSCRIPT_FIELD_NUMBER: _ClassVar[int]
    DLMS_AUTHENTICATED_ENCRYPTION_FIELD_NUMBER: _ClassVar[int]
    DLMS_ENCRYPTION_FIELD_NUMBER: _ClassVar[int]
    DLMS_AUTHENTICATION_FIELD_NUMBER: _ClassVar[int]
    DLMS_CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    DLMS_PROTECTED_FIELD_NUMBER: _ClassVar[int]
    DLMS_KEY_CHANGE_FIELD_NUMBER: _ClassVar[int]
    DLMS_ASSOCIATION_FIELD_NUMBER: _ClassVar[int]
    SERVICE_REFERENCE_VARIANT_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ROLE_FIELD_NUMBER: _ClassVar[int]
    SUPPLY_SENSITIVE_CHECK_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_STATEMENT_FIELD_NUMBER: _ClassVar[int]
    DEVICE_CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    key_id: str
    tbs_certificate: bytes
    certification_request_info: bytes
    tbs_cert_list: bytes
    gbcs_pre_command: bytes
    duis_document: bytes
    gbcs_command: bytes
    gbcs_message: bytes
    encrypted_response: bytes
    prepayment_token: bytes
    tls_server_key_exchange: bytes
    tls_transcript: bytes
    dlms_authenticated_encryption: DlmsPlaintext
    dlms_encryption: DlmsPlaintext
    dlms_authentication: DlmsPlaintext
    dlms_challenge: DlmsPlaintext
    dlms_protected: DlmsProtected
    dlms_key_change: DlmsKeyChange
    dlms_association: DlmsInitiate
    service_reference_variant: str
    user_id: str
    user_role: str
    supply_sensitive_check: bytes
    origin_statement: bytes
    device_certificate: bytes
    def __init__(self, request_id: _Optional[str] = ..., key_id: _Optional[str] = ..., tbs_certificate: _Optional[bytes] = ..., certification_request_info: _Optional[bytes] = ..., tbs_cert_list: _Optional[bytes] = ..., gbcs_pre_command: _Optional[bytes] = ..., duis_document: _Optional[bytes] = ..., gbcs_command: _Optional[bytes] = ..., gbcs_message: _Optional[bytes] = ..., encrypted_response: _Optional[bytes] = ..., prepayment_token: _Optional[bytes] = ..., tls_server_key_exchange: _Optional[bytes] = ..., tls_transcript: _Optional[bytes] = ..., dlms_authenticated_encryption: _Optional[_Union[DlmsPlaintext, _Mapping]] = ..., dlms_encryption: _Optional[_Union[DlmsPlaintext, _Mapping]] = ..., dlms_authentication: _Optional[_Union[DlmsPlaintext, _Mapping]] = ..., dlms_challenge: _Optional[_Union[DlmsPlaintext, _Mapping]] = ..., dlms_protected: _Optional[_Union[DlmsProtected, _Mapping]] = ..., dlms_key_change: _Optional[_Union[DlmsKeyChange, _Mapping]] = ..., dlms_association: _Optional[_Union[DlmsInitiate, _Mapping]] = ..., service_reference_variant: _Optional[str] = ..., user_id: _Optional[str] = ..., user_role: _Optional[str] = ..., supply_sensitive_check: _Optional[bytes] = ..., origin_statement: _Optional[bytes] = ..., device_certificate: _Optional[bytes] = ...) -> None: ...

class DlmsPlaintext(_message.Message):
    __slots__ = ("system_title", "invocation_counter", "text", "authentication_key_version", "association")
    SYSTEM_TITLE_FIELD_NUMBER: _ClassVar[int]
    INVOCATION_COUNTER_FIELD_NUMBER: _ClassVar[int]
    TEXT_FIELD_NUMBER: _ClassVar[int]
    AUTHENTICATION_KEY_VERSION_FIELD_NUMBER: _ClassVar[int]
    ASSOCIATION_FIELD_NUMBER: _ClassVar[int]
    system_title: bytes
    invocation_counter: int
    text: bytes
    authentication_key_version: int
    association: bytes
    def __init__(self, system_title: _Optional[bytes] = ..., invocation_counter: _Optional[int] = ..., text: _Optional[bytes] = ..., authentication_key_version: _Optional[int] = ..., association: _Optional[bytes] = ...) -> None: ...

class DlmsProtected(_message.Message):
    __slots__ = ("system_title", "apdu", "authentication_key_version", "association")
    SYSTEM_TITLE_FIELD_NUMBER: _ClassVar[int]
    APDU_FIELD_NUMBER: _ClassVar[int]
    AUTHENTICATION_KEY_VERSION_FIELD_NUMBER: _ClassVar[int]
    ASSOCIATION_FIELD_NUMBER: _ClassVar[int]
    system_title: bytes
    apdu: bytes
    authentication_key_version: int
    association: bytes
    def __init__(self, system_title: _Optional[bytes] = ..., apdu: _Optional[bytes] = ..., authentication_key_version: _Optional[int] = ..., association: _Optional[bytes] = ...) -> None: ...

class DlmsInitiate(_message.Message):
    __slots__ = ("system_title", "invocation_counter", "initiate_request", "authentication_key_version")
    SYSTEM_TITLE_FIELD_NUMBER: _ClassVar[int]
    INVOCATION_COUNTER_FIELD_NUMBER: _ClassVar[int]
    INITIATE_REQUEST_FIELD_NUMBER: _ClassVar[int]
    AUTHENTICATION_KEY_VERSION_FIELD_NUMBER: _ClassVar[int]
    system_title: bytes
    invocation_counter: int
    initiate_request: bytes
    authentication_key_version: int
    def __init__(self, system_title: _Optional[bytes] = ..., invocation_counter: _Optional[int] = ..., initiate_request: _Optional[bytes] = ..., authentication_key_version: _Optional[int] = ...) -> None: ...

class DlmsKeyChange(_message.Message):
    __slots__ = ("kind", "version")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    kind: str
    version: int
    def __init__(self, kind: _Optional[str] = ..., version: _Optional[int] = ...) -> None: ...

class SignResponse(_message.Message):
    __slots__ = ("request_id", "signature", "artefact", "receipt", "clause", "key_version", "derivation", "plaintexts", "association")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ARTEFACT_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    CLAUSE_FIELD_NUMBER: _ClassVar[int]
    KEY_VERSION_FIELD_NUMBER: _ClassVar[int]
    DERIVATION_FIELD_NUMBER: _ClassVar[int]
    PLAINTEXTS_FIELD_NUMBER: _ClassVar[int]
    ASSOCIATION_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    signature: bytes
    artefact: bytes
    receipt: _types_pb2.Receipt
    clause: str
    key_version: int
    derivation: str
    plaintexts: _containers.RepeatedScalarFieldContainer[bytes]
    association: bytes
    def __init__(self, request_id: _Optional[str] = ..., signature: _Optional[bytes] = ..., artefact: _Optional[bytes] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ..., clause: _Optional[str] = ..., key_version: _Optional[int] = ..., derivation: _Optional[str] = ..., plaintexts: _Optional[_Iterable[bytes]] = ..., association: _Optional[bytes] = ...) -> None: ...

class SignBatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[SignRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[SignRequest, _Mapping]]] = ...) -> None: ...

class SignBatchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SignResult]
    def __init__(self, results: _Optional[_Iterable[_Union[SignResult, _Mapping]]] = ...) -> None: ...

class SignStreamRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[SignRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[SignRequest, _Mapping]]] = ...) -> None: ...

class SignStreamResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[SignResult]
    def __init__(self, results: _Optional[_Iterable[_Union[SignResult, _Mapping]]] = ...) -> None: ...

class SignResult(_message.Message):
    __slots__ = ("signed", "error", "request_id")
    SIGNED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    signed: SignResponse
    error: _status_pb2.Status
    request_id: str
    def __init__(self, signed: _Optional[_Union[SignResponse, _Mapping]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., request_id: _Optional[str] = ...) -> None: ...

class ExplainResponse(_message.Message):
    __slots__ = ("permitted", "content_kind", "facts", "clause", "policies", "policy_digest", "refusal", "receipt")
    class FactsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PERMITTED_FIELD_NUMBER: _ClassVar[int]
    CONTENT_KIND_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    CLAUSE_FIELD_NUMBER: _ClassVar[int]
    POLICIES_FIELD_NUMBER: _ClassVar[int]
    POLICY_DIGEST_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    permitted: bool
    content_kind: str
    facts: _containers.ScalarMap[str, str]
    clause: str
    policies: _containers.RepeatedScalarFieldContainer[str]
    policy_digest: str
    refusal: _status_pb2.Status
    receipt: _types_pb2.Receipt
    def __init__(self, permitted: _Optional[bool] = ..., content_kind: _Optional[str] = ..., facts: _Optional[_Mapping[str, str]] = ..., clause: _Optional[str] = ..., policies: _Optional[_Iterable[str]] = ..., policy_digest: _Optional[str] = ..., refusal: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., receipt: _Optional[_Union[_types_pb2.Receipt, _Mapping]] = ...) -> None: ...
