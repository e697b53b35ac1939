from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListKeysRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListKeysResponse(_message.Message):
    __slots__ = ("keys", "next_page_token")
    KEYS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[Key]
    next_page_token: str
    def __init__(self, keys: _Optional[_Iterable[_Union[Key, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class GetKeyRequest(_message.Message):
    __slots__ = ("key_id",)
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    def __init__(self, key_id: _Optional[str] = ...) -> None: ...

class Key(_message.Message):
    __slots__ = ("key_id", "version", "key_class", "state", "system", "environment", "public_point", "certificate", "eui64", "remote_party_role", "origin", "transferable", "may_sign", "module")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    KEY_CLASS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    SYSTEM_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_POINT_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FIELD_NUMBER: _ClassVar[int]
    EUI64_FIELD_NUMBER: _ClassVar[int]
    REMOTE_PARTY_ROLE_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    TRANSFERABLE_FIELD_NUMBER: _ClassVar[int]
    MAY_SIGN_FIELD_NUMBER: _ClassVar[int]
    MODULE_FIELD_NUMBER: _ClassVar[int]
    key_id: str
    version: int
    key_class: str
    state: str
    system: str
    environment: str
    public_point: bytes
    certificate: bytes
    eui64: str
    remote_party_role: int
    origin: str
    transferable: bool
    may_sign: _containers.RepeatedScalarFieldContainer[str]
    module: str
    def __init__(self, key_id: _Optional[str] = ..., version: _Optional[int] = ..., key_class: _Optional[str] = ..., state: _Optional[str] = ..., system: _Optional[str] = ..., environment: _Optional[str] = ..., public_point: _Optional[bytes] = ..., certificate: _Optional[bytes] = ..., eui64: _Optional[str] = ..., remote_party_role: _Optional[int] = ..., origin: _Optional[str] = ..., transferable: _Optional[bool] = ..., may_sign: _Optional[_Iterable[str]] = ..., module: _Optional[str] = ...) -> None: ...
