"""The Vault port: keys made, found and destroyed on a module, each in a session of its own, and looked at afterwards.

These are acts of people, a few a day: each opens the token, does one thing and closes it. The sessions that sign are
not touched.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from cryptosvc.adapters.hsm.assurance import ModuleConfig, Reported
from cryptosvc.adapters.hsm.constants import Cko
from cryptosvc.adapters.hsm.first_signature import NotCopied
from cryptosvc.adapters.hsm.provision import Provisioner
from cryptosvc.core import first_request
from cryptosvc.core.acts.base import Made
from cryptosvc.core.errors import Corrupt, Malformed, Unavailable
from cryptosvc.core.keyclass import ceiling
from cryptosvc.core.names import KeyId, ModuleName
from cryptosvc.core.registry import KeyRecord
from cryptosvc.flow.ports import HeldObject

_Answer = TypeVar("_Answer")
_NOT_WHOLE = frozenset({"hsm/object-missing", "hsm/public-point"})
"""One half of a key pair is not there."""


class Pkcs11Vault:
    """Keys on the configured modules.

    Args:
        configs: the modules.
        lock_folder: shared by all processes of the host that use the library.

    """

    def __init__(self, configs: Sequence[ModuleConfig], lock_folder: Path) -> None:
        self._configs = {config.name: config for config in configs}
        self._lock_folder = lock_folder

    async def generate(self, key: KeyRecord) -> Made:
        """See `flow/ports.py`."""

        def work(token: Provisioner) -> Made:
            point, more = _generated(token, key)
            return Made(point, _facts(key, token.reported, more))

        return await self._with(key.module, work)

    async def adopt(self, key: KeyRecord) -> Made:
        """See `flow/ports.py`."""

        def work(token: Provisioner) -> Made:
            found = token.adopt(key.label, key.object_id, ceiling(key.key_class).template)
            differences = {f"differs_{number}": str(one) for number, one in enumerate(found.differences, 1)}
            return Made(found.public_point, _facts(key, token.reported, differences))

        return await self._with(key.module, work)

    async def destroy(self, key: KeyRecord) -> Made:
        """See `flow/ports.py`."""

        def work(token: Provisioner) -> int:
            here = token.name == key.module or _is_replica(token, key)
            return token.destroy(key.label, key.object_id) if here and _matching(token, key) else 0

        def look(token: Provisioner) -> Reported:
            left = _matching(token, key) if token.name == key.module or _is_replica(token, key) else []
            if left:
                raise Corrupt(
                    f"module {key.module} still has {len(left)} objects of key {key.key_id} after they were destroyed",
                    rule="hsm/not-destroyed",
                    clause="G5.13(b)",
                )
            return token.reported

        # replicas: the same object on any other configured module goes with it
        counts = {name: await self._with(name, work) for name in self._configs}
        # asked again in a new session each: what the first one still sees is no evidence
        reported = {name: await self._with(name, look) for name in self._configs}
        facts = {"objects_destroyed": str(sum(counts.values())), "objects_left": "0"}
        for number, name in enumerate(
            sorted(one for one, count in counts.items() if count and one != key.module), 1
        ):
            facts[f"replica_{number}"] = f"{name}: serial {reported[name].serial}"
        facts["modules_asked"] = ",".join(sorted(self._configs))
        return Made(b"", _facts(key, reported[key.module], facts))

    async def objects(self, module: ModuleName) -> Sequence[HeldObject]:
        """See `flow/ports.py`."""

        def work(token: Provisioner) -> list[HeldObject]:
            return [
                HeldObject(
                    Cko(seen.object_class).name.lower().replace("_", "-"),
                    seen.label,
                    seen.object_id,
                    seen.public_point,
                )
                for seen in token.objects()
                if seen.object_class in (Cko.PRIVATE_KEY, Cko.PUBLIC_KEY, Cko.SECRET_KEY)
            ]

        return await self._with(module, work)

    async def identity(self, module: ModuleName) -> Mapping[str, str]:
        """See `flow/ports.py`."""
        return await self._with(module, lambda token: identity(token.reported))

    async def differences(
        self, module: ModuleName, keys: Sequence[KeyRecord]
    ) -> Mapping[KeyId, Sequence[str]]:
        """See `flow/ports.py`."""

        def work(token: Provisioner) -> dict[KeyId, Sequence[str]]:
            return {key.key_id: _differences(token, key) for key in keys}

        return await self._with(module, work)

    async def _with(self, module: ModuleName, work: Callable[[Provisioner], _Answer]) -> _Answer:
        config = self._configs.get(module)
        if config is None:
            raise Malformed(
                f"there is no module {module!r} in the configuration",
                rule="hsm/unknown-module",
                field="module",
            )

        def opened() -> _Answer:
            with Provisioner(config, self._lock_folder) as token:
                return work(token)

        return await asyncio.to_thread(opened)


def identity(reported: Reported) -> Mapping[str, str]:
    """What a module reports, by the names of `core/asset.IDENTITY`."""
    return {
        "manufacturer": reported.manufacturer,
        "model": reported.model,
        "serial": reported.serial,
        "firmware": reported.firmware,
    }


def _facts(
    key: KeyRecord, reported: Reported, more: Mapping[str, str] | None = None
) -> tuple[tuple[str, str], ...]:
    facts = {
        "module": str(key.module),
        "object_label": key.label,
        "object_id": key.object_id.hex(),
        **identity(reported),
        **(more or {}),
    }
    return tuple(sorted(facts.items()))


def _generated(token: Provisioner, key: KeyRecord) -> tuple[bytes, Mapping[str, str]]:
    """Public point, and of a key that derives the request for its certificate, which it can sign at no other time."""
    template = ceiling(key.key_class).template
    if not first_request.is_due(key):
        return token.generate(key.label, key.object_id, template), {}
    try:
        point, signature = token.generate_with_request(
            key.label, key.object_id, template, lambda point: first_request.information(key, point)
        )
    except NotCopied as refused:
        # a key without a request is of use all the same: whoever certifies it may take another proof of possession
        point = token.generate(key.label, key.object_id, template)
        return point, {"certification_request_not_made": str(refused)}
    return point, {"certification_request": first_request.finished(key, point, signature).hex()}


def _differences(token: Provisioner, key: KeyRecord) -> Sequence[str]:
    # a key that came from another system leaves again only where that was approved: its record says
    template = replace(ceiling(key.key_class).template, transferable=key.transferable)
    try:
        found = token.adopt(key.label, key.object_id, template)
    except Unavailable as error:
        if error.rule in _NOT_WHOLE:
            return [error.message]
        raise
    except Corrupt as error:
        return [error.message]
    return [str(one) for one in found.differences]


def _is_replica(token: Provisioner, key: KeyRecord) -> bool:
    """Whether another module has this very key: its label and id, and the same public point."""
    return key.public_point != b"" and any(
        (seen.label, seen.object_id, seen.public_point) == (key.label, key.object_id, key.public_point)
        for seen in token.objects()
    )


def _matching(token: Provisioner, key: KeyRecord) -> list[str]:
    return [
        seen.label for seen in token.objects() if (seen.label, seen.object_id) == (key.label, key.object_id)
    ]
