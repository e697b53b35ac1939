"""A report as one HTML file: no script, nothing fetched, every text escaped.

The page carries a content security policy that allows its own styles and nothing else, so that even a text that were
printed unescaped could neither run nor reach out.
"""

from collections.abc import Iterator, Mapping
from importlib.resources import files

import jinja2

from cryptosvc.cli.report_charts import drawn
from cryptosvc.core.account import instant
from cryptosvc.core.canonical import canonical
from cryptosvc.core.merkle import leaf_hash
from cryptosvc.core.report.page import Count, EntryLink, EntryLinks, NotVerified, Page, Scope, Verified
from cryptosvc.core.retold import Told
from cryptosvc.core.said import moment

_TEMPLATE = "report.html.j2"
_STYLE = "report.css"


def pages(
    verdict: Verified | NotVerified,
    page: Page,
    scope: Scope,
    cited: Mapping[int, Told],
    made: Mapping[str, str],
) -> Iterator[str]:
    """Print a report, a piece at a time.

    Args:
        verdict: of the range.
        page: what to print.
        scope: what it is about.
        cited: every entry it leads to.
        made: `at` (when) and `by` (which program).

    """
    folder = files("cryptosvc.cli") / "pages"
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["drawn"] = drawn
    environment.tests["number"] = lambda cell: isinstance(cell, Count)
    environment.tests["link"] = lambda cell: isinstance(cell, EntryLink)
    environment.tests["links"] = lambda cell: isinstance(cell, EntryLinks)
    environment.filters["thousands"] = lambda number: f"{number:,}"
    template = environment.from_string((folder / _TEMPLATE).read_text())
    yield from template.generate(
        style=(folder / _STYLE).read_text(),
        verified=verdict if isinstance(verdict, Verified) else None,
        failed=verdict if isinstance(verdict, NotVerified) else None,
        page=page,
        scope=scope,
        bounds=(instant(scope.start), instant(scope.stop)),
        entries=[_shown(told) for _, told in sorted(cited.items())],
        there=cited.keys(),
        made=made,
    )


def _shown(told: Told) -> Mapping[str, object]:
    octets = canonical(told.entry)
    return {
        "index": told.leaf_index,
        "time": instant(moment(told.entry)),
        "kind": str(told.entry.get("kind", "")),
        "hash": leaf_hash(octets).hex(),
        "text": octets.decode(),
        "beside": [(name, value) for name, value in sorted(told.beside.items()) if name not in _LONG],
    }


_LONG = frozenset({"document", "genesis", "policy_files"})
