"""Octets become a tree only where every parser and canonicaliser must read them the same way.

Refused before any parser sees them: anything but UTF-8 without a byte order mark, NUL, an XML declaration that says
anything but XML 1.0 and UTF-8, and every `<!` and every other `<?` — in well-formed XML a literal `<` is always markup,
so that is every DOCTYPE, entity declaration, CDATA section, comment and processing instruction. A comment inside an
element would leave the document digest as it is and truncate the text a reader sees.

Refused before the schema is asked: namespaces declared below the root, prefixes bound to anything unknown, elements
outside the DUIS namespace, attributes in any namespace (xsi:type, xsi:schemaLocation, xml:id), a ds:Signature anywhere,
depth over the bound.

Source: XML 1.0 fifth edition 2.1, 2.4, 2.8; XML Signature Best Practices (W3C Note, 11 April 2013), 2 and 3.
"""

import re
from functools import lru_cache

from lxml import etree

from cryptosvc.core.errors import Malformed
from cryptosvc.core.names import ContentForm

DUIS_NAMESPACE = "http://www.dccinterface.co.uk/ServiceUserGateway"
SIGNATURE_NAMESPACE = "http://www.w3.org/2000/09/xmldsig#"

_MAY_BE_DECLARED = frozenset(
    {
        DUIS_NAMESPACE,
        SIGNATURE_NAMESPACE,
        "http://www.dccinterface.co.uk/ResponseAndAlert",
        "http://www.w3.org/2001/XMLSchema-instance",
        "http://www.w3.org/2001/XMLSchema",
    }
)
_DECLARED_AT_MOST = 16
"""Prefixes, the default included; canonicalising them takes time by the square of their number."""

_FIELD = ContentForm.DUIS_DOCUMENT.value
_DECLARATION = re.compile(
    rb"""<\?xml[ \t\r\n]+version[ \t\r\n]*=[ \t\r\n]*(?:"1\.0"|'1\.0')"""
    rb"""(?:[ \t\r\n]+encoding[ \t\r\n]*=[ \t\r\n]*(?:"[Uu][Tt][Ff]-8"|'[Uu][Tt][Ff]-8'))?"""
    rb"""(?:[ \t\r\n]+standalone[ \t\r\n]*=[ \t\r\n]*(?:"(?:yes|no)"|'(?:yes|no)'))?"""
    rb"""[ \t\r\n]*\?>"""
)
_ROOT_TAG = re.compile(rb"""[ \t\r\n]*+<(?:[^<>"']++|"[^"]*+"|'[^']*+')*+>""")
_DECLARES_NAMESPACE = re.compile(rb"[ \t\r\n]xmlns[:= \t\r\n]")

_PARSER = etree.XMLParser(
    encoding="UTF-8",
    resolve_entities=False,
    load_dtd=False,
    dtd_validation=False,
    attribute_defaults=False,
    no_network=True,
    huge_tree=False,
    recover=False,
    remove_comments=False,
    remove_pis=False,
    strip_cdata=False,
)
_NAMESPACES = {"sr": DUIS_NAMESPACE, "ds": SIGNATURE_NAMESPACE}
_HAS_SIGNATURE = etree.XPath("boolean(//ds:*)", namespaces=_NAMESPACES)
_HAS_FOREIGN_ELEMENT = etree.XPath("count(//*) != count(//sr:*)", namespaces=_NAMESPACES)
_HAS_FOREIGN_ATTRIBUTE = etree.XPath("boolean(//@*[namespace-uri() != ''])")


def sanitised(payload: bytes, max_octets: int, max_depth: int) -> etree._Element:
    """Parse `payload` and return its root element, or raise Malformed naming the rule it breaks.

    Args:
        payload: the whole document.
        max_octets: longest document.
        max_depth: most elements inside each other, the root counted.

    """
    if len(payload) > max_octets:
        raise _refused(f"has more than {max_octets} octets", "size")
    start = _after_declaration(payload)
    root = _parsed(payload)
    if _deeper_than(max_depth)(root):
        raise _refused(f"has more than {max_depth} elements inside each other", "depth")
    if len(root.nsmap) > _DECLARED_AT_MOST:
        raise _refused(f"declares at most {_DECLARED_AT_MOST} namespace prefixes", "namespace-count")
    if not _MAY_BE_DECLARED.issuperset(root.nsmap.values()):
        raise _refused("binds a prefix to a namespace that DUIS does not use", "namespace")
    if _HAS_SIGNATURE(root):
        raise _refused("is signed by the service: send it without any ds:Signature", "signature-present")
    root_tag = _ROOT_TAG.match(payload, start)
    if root_tag is None or _declares_namespace(payload, root_tag.end()):
        raise _refused("declares its namespaces on the root element only", "namespace-redeclared")
    if _HAS_FOREIGN_ELEMENT(root):
        raise _refused("has elements of the DUIS namespace only", "foreign-element")
    if _HAS_FOREIGN_ATTRIBUTE(root):
        raise _refused(
            "has no attributes in a namespace (xsi:type, xml:id and the like)", "foreign-attribute"
        )
    return root


@lru_cache(maxsize=8)
def _deeper_than(max_depth: int) -> etree.XPath:
    return etree.XPath(f"boolean({'/*' * (max_depth + 1)})")


def _declares_namespace(payload: bytes, start: int) -> bool:
    # The plain search is twenty times faster than the expression, and nearly always has nothing to find.
    return payload.find(b"xmlns", start) >= 0 and _DECLARES_NAMESPACE.search(payload, start) is not None


def _after_declaration(payload: bytes) -> int:
    """Check the octets no parser is asked about; return where the XML declaration ends."""
    try:
        payload.decode()
    except UnicodeDecodeError:
        raise _refused("is UTF-8", "encoding") from None
    if b"\x00" in payload:
        raise _refused("is UTF-8 without NUL", "encoding")
    start = 0
    if payload.startswith(b"<?"):
        declaration = _DECLARATION.match(payload)
        if declaration is None:
            raise _refused("is XML 1.0 in UTF-8, and its XML declaration says nothing else", "declaration")
        start = declaration.end()
    elif not payload.startswith(b"<"):
        raise _refused("begins with its XML declaration or its root element", "declaration")
    if payload.find(b"<?", start) >= 0:
        raise _refused("has no processing instructions", "processing-instruction")
    if b"<!" in payload:
        raise _refused("has no DOCTYPE, entities, comments or CDATA sections", "markup-declaration")
    return start


def _parsed(payload: bytes) -> etree._Element:
    try:
        return etree.fromstring(payload, _PARSER)
    except (etree.XMLSyntaxError, ValueError):
        raise _refused("is well-formed XML", "well-formed") from None


def _refused(what: str, rule: str) -> Malformed:
    return Malformed(f"a DUIS document {what}", rule=f"duis/{rule}", field=_FIELD)
