"""Papers of a ceremony, each put together, signed through the corridor, and laid on the shelf, unless it lies there."""

import secrets
from collections.abc import Callable, Sequence

from cryptosvc.core.case import Request
from cryptosvc.core.ceremony.acts import Act
from cryptosvc.core.ceremony.rows import ActKind
from cryptosvc.core.errors import Corrupt, Malformed, WrongState
from cryptosvc.core.keyclass import AUTHORITY_CLASSES
from cryptosvc.core.life import NANOSECONDS, UnixSeconds
from cryptosvc.core.names import ContentForm, ContentKind, KeyId, RequestId
from cryptosvc.core.registry import KeyRecord
from cryptosvc.flow.sign import Signed
from cryptosvc.wiring.ceremony import papers, said
from cryptosvc.wiring.ceremony.office import Office
from cryptosvc.wiring.ceremony.shelf import PAPERS, Shelf


class Maker:
    """Makes papers. Errors are those of the corridor; what a kill left on the shelf is not made again."""

    def __init__(self, office: Office, shelf: Shelf) -> None:
        self._office = office
        self._shelf = shelf

    async def root_certificate(self, act: Act, key: KeyRecord) -> None:
        """The certificate of a Root OCA, by its own key."""
        if self._shelf.has(PAPERS, act.text("certificate")):
            return
        tbs = papers.root_certificate(
            key.public_point, act.text("common_name"), act.number_of("days"), self._now(), self._office.x509
        )
        await self._keep(act.text("certificate"), key, ContentForm.TBS_CERTIFICATE, tbs)

    async def request(self, act: Act, key: KeyRecord) -> None:
        """The certification request of a key. Malformed: it has no role or entity to be certified in."""
        if self._shelf.has(PAPERS, act.text("request")):
            return
        if key.role is None:
            raise Malformed(
                f"the key {key.key_id} has no Remote Party Role, so nobody can ask for its certificate",
                rule="ceremony/role",
                field="role",
            )
        is_oca = key.key_class in AUTHORITY_CLASSES
        if is_oca:
            name = papers.oca_name(key.role, act.text("common_name"))
        elif key.eui64 is None:
            raise Malformed(
                f"the key {key.key_id} is for no entity, so nobody can ask for its certificate",
                rule="ceremony/entity",
                field="eui64",
            )
        else:
            name = papers.organisation_name(key.role, key.eui64, act.text("common_name"))
        info = papers.request(key.public_point, name, is_oca=is_oca)
        await self._keep(act.text("request"), key, ContentForm.CERTIFICATION_REQUEST_INFO, info)

    async def certificate(self, act: Act, issuer: KeyRecord, subject: KeyRecord) -> None:
        """The certificate a request asks for. Corrupt: the request is for another key."""
        request = self._shelf.get(PAPERS, act.text("request"))
        if said.of_request(request, self._office.x509)["public_key"] != subject.public_point.hex():
            raise Corrupt(
                f"the request {act.text('request')} is not for the key {subject.key_id}",
                rule="ceremony/request",
                clause=act.clause,
            )
        if self._shelf.has(PAPERS, act.text("certificate")):
            return
        _require_certificate(issuer, act)
        is_oca = act.text("profile") == ContentKind.OCA_CERTIFICATE
        tbs = papers.issued_certificate(
            issuer.certificate,
            request,
            act.number_of("days"),
            self._now(),
            self._office.x509,
            is_oca=is_oca,
        )
        await self._keep(act.text("certificate"), issuer, ContentForm.TBS_CERTIFICATE, tbs)

    async def revocation_list(
        self,
        act: Act,
        issuer: KeyRecord,
        revoked_by: Callable[[KeyRecord], Sequence[papers.Revocation]],
    ) -> None:
        """An ARL or CRL of everything that is revoked; its number is the second it was made in, so it rises."""
        if self._shelf.has(PAPERS, act.text("list")):
            return
        _require_certificate(issuer, act)
        at, is_arl = self._now(), act.kind is ActKind.SIGN_ARL
        revoked = revoked_by(issuer)
        tbs = papers.revocation_list(
            issuer.certificate, at, act.number_of("days"), at, revoked, is_arl=is_arl
        )
        await self._keep(act.text("list"), issuer, ContentForm.TBS_CERT_LIST, tbs)

    async def _keep(self, name: str, key: KeyRecord, form: ContentForm, payload: bytes) -> None:
        request = Request(
            request_id=RequestId(f"ceremony-{secrets.token_hex(16)}"),
            key_id=KeyId(key.key_id),
            form=form,
            payload=payload,
        )
        (answer,) = await self._office.signer.sign(self._office.principal, [request])
        if not isinstance(answer, Signed):
            raise answer.error
        self._shelf.put(PAPERS, name, answer.checked.artefact)

    def _now(self) -> UnixSeconds:
        return UnixSeconds(self._office.clock.now().at // NANOSECONDS)


def _require_certificate(issuer: KeyRecord, act: Act) -> None:
    if not issuer.certificate:
        raise WrongState(
            f"the key {issuer.key_id} has no certificate yet, so it can issue nothing",
            rule="key-certificate/none",
            clause=act.clause,
        )
