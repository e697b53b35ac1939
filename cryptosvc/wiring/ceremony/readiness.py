"""What a ceremony takes as given, looked at before anybody begins."""

from cryptosvc.core.ceremony.acts import Act
from cryptosvc.core.ceremony.rows import ActKind, Thing
from cryptosvc.core.ceremony.script import Script
from cryptosvc.core.errors import Corrupt, Forbidden, Malformed, WrongState
from cryptosvc.core.life import IN_CEREMONIES, NANOSECONDS, UnixSeconds
from cryptosvc.core.lifecycle import effective
from cryptosvc.core.names import Environment
from cryptosvc.core.registry import KeyRecord
from cryptosvc.wiring.ceremony.office import Office
from cryptosvc.wiring.ceremony.rereading import fingerprint, key_fingerprint
from cryptosvc.wiring.ceremony.shelf import PAPERS, Shelf


class Readiness:
    """Whether a deployment and the folder of a ceremony are as its script takes them to be.

    Args:
        office: the deployment.
        shelf: papers and files.

    """

    def __init__(self, office: Office, shelf: Shelf) -> None:
        self._office = office
        self._shelf = shelf

    async def require(self, script: Script) -> None:
        """Require it.

        Raises:
            Malformed: a module, key, paper or file that the script names is not there.
            WrongState, Corrupt: a key or paper is not as it is taken as given.
            Forbidden: an act that cannot be done in this environment.

        """
        for act in script.acts:
            if act.kind is ActKind.REVOKE and self._shelf.has(
                PAPERS, f"{act.text('certificate')}.revocation"
            ):
                raise WrongState(
                    f"the certificate {act.text('certificate')} is revoked already",
                    rule="ceremony/given",
                    clause=act.clause,
                )
            if act.row.event in IN_CEREMONIES and not act.has("evidence"):
                self._require_test(act)
        configured = {module.name for module in self._office.settings.modules}
        if script.module not in configured:
            raise Malformed(
                f"there is no module {script.module!r} in the configuration",
                rule="hsm/unknown-module",
                field="parameters.module",
            )
        for one in script.given:
            if one.thing is Thing.KEY:
                await self._require_given(one.name, one.key_class, str(one.state), one.fingerprint)
            elif one.thing is Thing.CERTIFICATE:
                found = await self._key(one.key)
                self._require_fingerprint(one.name, fingerprint(found.certificate), one.fingerprint)
            else:
                octets = self._shelf.get(PAPERS, one.name)
                self._require_fingerprint(one.name, fingerprint(octets), one.fingerprint)

    def _require_test(self, act: Act) -> None:
        if self._office.settings.deployment.environment is Environment.LIVE:
            raise Forbidden(
                f"act {act.number}, {act.kind.value}: in live the quorum of the module does it, since PKCS #11 has none; the "
                "ceremony file names the file with its evidence",
                rule="ceremony/evidence",
                clause="G2.44B",
                field=f"acts.{act.number - 1}.evidence",
            )

    async def _require_given(self, name: str, key_class: str, state: str, wanted: str) -> None:
        key = await self._key(name)
        now, _ = effective(key, self._now())
        if key.key_class != key_class or now != state:
            raise WrongState(
                f"the key {name} is a {key.key_class} key and {now}; the ceremony takes it as given that it is a "
                f"{key_class} key and {state}",
                rule="ceremony/given",
                clause="G5.13(b)",
                field="given",
            )
        self._require_fingerprint(name, key_fingerprint(key).get(name, ""), wanted)

    def _require_fingerprint(self, name: str, found: str, wanted: str) -> None:
        if wanted and found != wanted:
            raise Corrupt(
                f"{name} has another fingerprint than the ceremony file says", rule="ceremony/given"
            )

    async def _key(self, key_id: str) -> KeyRecord:
        found = await self._office.key(key_id)
        if found is None:
            raise Malformed(f"there is no key {key_id}", rule="ceremony/not-there", field="key")
        return found

    def _now(self) -> UnixSeconds:
        return UnixSeconds(self._office.clock.now().at // NANOSECONDS)
