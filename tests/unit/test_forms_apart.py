"""Bytes are of one form at most: what is said to be another is malformed, in the field that carries it."""

import pytest

from cryptosvc.core.content import forms
from cryptosvc.core.content.gbcs.profile import GbcsProfile
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import ContentForm, ContentKind
from tests import duis_documents, precommands
from tests.x509_specimens import PROFILE, SPECIMENS

PROFILES = forms.Profiles(
    x509=PROFILE, gbcs=GbcsProfile(), duis=duis_documents.demo_profile(), log_origin="test.example/log"
)
ASKED = (
    ContentForm.TBS_CERTIFICATE,
    ContentForm.CERTIFICATION_REQUEST_INFO,
    ContentForm.TBS_CERT_LIST,
    ContentForm.GBCS_PRE_COMMAND,
    ContentForm.DUIS_DOCUMENT,
)
GENUINE: dict[str, tuple[ContentForm, bytes]] = {
    "ecs43": (ContentForm.GBCS_PRE_COMMAND, precommands.ecs43()),
    "gcs32": (ContentForm.GBCS_PRE_COMMAND, precommands.gcs32()),
    "cs06": (ContentForm.GBCS_PRE_COMMAND, precommands.cs06()),
    "service-request": (ContentForm.DUIS_DOCUMENT, duis_documents.request()),
} | {
    name: (
        {
            "certificate": ContentForm.TBS_CERTIFICATE,
            "crl": ContentForm.TBS_CERT_LIST,
            "csr": ContentForm.CERTIFICATION_REQUEST_INFO,
        }[specimen.form],
        specimen.payload,
    )
    for name, specimen in SPECIMENS.items()
}


@pytest.mark.parametrize("name", GENUINE)
@pytest.mark.parametrize("said", ASKED)
def test_what_is_said_to_be_another_form_is_malformed(said: ContentForm, name: str) -> None:
    form, payload = GENUINE[name]
    if said is form:
        assert forms.parse(said, payload, PROFILES).kind in ContentKind
        return
    with pytest.raises(Malformed) as refusal:
        forms.parse(said, payload, PROFILES)
    assert refusal.value.field == said.value
    assert refusal.value.rule


@pytest.mark.parametrize("name", GENUINE)
def test_what_is_signed_of_one_form_is_not_read_as_any_other(name: str) -> None:
    """The bytes a key signs, handed in as a payload: a signature is never good for a second thing."""
    form, payload = GENUINE[name]
    signed = forms.parse(form, payload, PROFILES).signed_bytes
    # a Device's challenge may be any octets; what answers it is an AES key, which signs nothing
    for said in set(ContentForm) - {form, ContentForm.DLMS_CHALLENGE}:
        with pytest.raises(Malformed):
            forms.parse(said, signed, PROFILES)
