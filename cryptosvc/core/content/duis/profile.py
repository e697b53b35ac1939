"""What stays configuration of DUIS: the schema and the bounds, compiled once from octets that someone else read.

The DCC's schema names one of its imports with a space in `schemaLocation`, which libxml2 rejects; and an import may
point anywhere. So imports are never followed: each is answered, by the namespace it names, with octets given here.

The schema's own octets come from the operator and are trusted more than a document's, but no further than they need:
internal entities are expanded (the W3C schema of XML signatures has some), nothing is loaded from outside.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lxml import etree

from cryptosvc.core.content.duis.sanitise import SIGNATURE_NAMESPACE
from cryptosvc.core.content.duis.variants import SERVICE_REQUESTS
from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import UserRole

MAX_OCTETS = 256 * 1024
"""Default bound of a document; the largest of the reference test data has 30 kB."""
MAX_DEPTH = 32
"""Default bound of elements inside each other; the deepest of the reference test data has 10."""

_XSD = "http://www.w3.org/2001/XMLSchema"
_LOCATION = "cryptosvc-schema:"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class DuisProfile:
    """How documents are read.

    Args:
        schema: the compiled schema, its imports with it.
        max_octets: longest document.
        max_depth: most elements inside each other.
        eligible: Service Reference Variant → User Roles that may send it; a variant that is not there may be sent by
            nobody but the DCC.

    """

    schema: etree.XMLSchema
    max_octets: int = MAX_OCTETS
    max_depth: int = MAX_DEPTH
    eligible: Mapping[str, frozenset[UserRole]] = field(
        default_factory=lambda: {variant: row.eligible for variant, row in SERVICE_REQUESTS.items()}
    )


def duis_profile(
    schema: bytes,
    xmldsig_schema: bytes,
    other_schemas: Sequence[bytes] = (),
    *,
    max_octets: int = MAX_OCTETS,
    max_depth: int = MAX_DEPTH,
    eligible: Mapping[str, frozenset[UserRole]] | None = None,
) -> DuisProfile:
    """Compile the schema.

    Args:
        schema: the DUIS schema.
        xmldsig_schema: the schema of `http://www.w3.org/2000/09/xmldsig#`.
        other_schemas: what else the DUIS schema imports (the DCC's imports its message mapping catalogue schema).
        max_octets: longest document.
        max_depth: most elements inside each other.
        eligible: rows that replace or extend the table's Eligible User Roles.

    Raises:
        Malformed: a schema is not one, an import is not among those given, or the whole does not compile.

    """
    imports: dict[str, bytes] = {}
    for octets in (xmldsig_schema, *other_schemas):
        root = _read(octets)
        imports[root.get("targetNamespace", "")] = _rewritten(root)
    if SIGNATURE_NAMESPACE not in imports:
        raise _refused("the xmldsig schema given is not the one of XML signatures")
    main = _rewritten(_read(schema))
    wanted = {found for octets in (main, *imports.values()) for found in _imported(octets)}
    if missing := sorted(wanted - imports.keys()):
        raise _refused(f"the DUIS schema imports {', '.join(missing)}; give that schema too")
    return DuisProfile(
        schema=_compiled(main, imports),
        max_octets=max_octets,
        max_depth=max_depth,
        eligible={variant: row.eligible for variant, row in SERVICE_REQUESTS.items()} | dict(eligible or {}),
    )


class _Given(etree.Resolver):
    """Answers imports with the octets given, and everything else with nothing at all."""

    def __init__(self, imports: Mapping[str, bytes]) -> None:
        super().__init__()
        self._imports = imports

    def resolve(  # type: ignore[override]  # lxml passes three arguments, its stubs know two
        self, system_url: str, public_id: str, context: object
    ) -> object:
        """Return the octets for one of our own locations; an empty document for any other."""
        del public_id
        found = self._imports.get(system_url.removeprefix(_LOCATION), b"<nothing/>")
        return self.resolve_string(found, context, base_url=system_url)


def _parser() -> etree.XMLParser:
    return etree.XMLParser(
        resolve_entities="internal",  # type: ignore[arg-type]  # the stubs are older than this value
        load_dtd=False,
        no_network=True,
        huge_tree=False,
    )


def _read(octets: bytes) -> etree._Element:
    try:
        root = etree.fromstring(octets, _parser())
    except (etree.XMLSyntaxError, ValueError):
        raise _refused("a schema file is not well-formed XML") from None
    if root.tag != f"{{{_XSD}}}schema":
        raise _refused("a schema file does not hold an XML schema")
    return root


def _rewritten(root: etree._Element) -> bytes:
    """Point every import at one of our own locations, refuse includes, and drop the DOCTYPE."""
    for name in ("include", "redefine"):
        if root.find(f"{{{_XSD}}}{name}") is not None:
            raise _refused(f"a schema file uses xs:{name}, which is not followed; merge the files")
    for one in root.iterfind(f"{{{_XSD}}}import"):
        one.set("schemaLocation", _LOCATION + one.get("namespace", ""))
    return etree.tostring(root, encoding="UTF-8", with_tail=False)


def _imported(octets: bytes) -> list[str]:
    return [one.get("namespace", "") for one in etree.fromstring(octets).iterfind(f"{{{_XSD}}}import")]


def _compiled(main: bytes, imports: Mapping[str, bytes]) -> etree.XMLSchema:
    parser = _parser()
    parser.resolvers.add(_Given(imports))
    try:
        return etree.XMLSchema(etree.fromstring(main, parser))
    except etree.XMLSchemaParseError as error:
        raise _refused(f"the DUIS schema does not compile: {error}") from None


def _refused(message: str) -> Malformed:
    return Malformed(message, rule="duis/schema", field="duis.schema")
