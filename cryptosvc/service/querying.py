"""AuditService.Query: pages of an answer, one frame after another, until it is complete or as much as was asked for.

Who asks is looked up again for every page, so an auditor that is revoked while it reads gets no further one. A frame
holds about a mebibyte at most, and each carries the cursor that goes on behind it.
"""

from collections.abc import Iterator

from cryptosvc.core.case import Principal
from cryptosvc.core.errors import Malformed, Refusal
from cryptosvc.core.names import Operation
from cryptosvc.core.query import LATEST, Cursor, Query
from cryptosvc.flow.ports import Page
from cryptosvc.pb.v1 import audit_pb2
from cryptosvc.service import convert
from cryptosvc.service.handlers import Context, Desk, Handler
from cryptosvc.service.limits import MEBIBYTE
from cryptosvc.service.reading import LARGEST_INDEX

_FRAME_OCTETS = MEBIBYTE


class QueryHandlers:
    """Answers Query.

    Args:
        desk: what every call goes through.

    """

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._inquirer = desk.application.inquirer

    def methods(self) -> dict[str, Handler]:
        """Handlers by method name."""
        return {"Query": self._desk.answering("Query", Operation.READ_LOG, self._query)}

    async def _query(self, principal: Principal, payload: bytes, context: Context) -> None:
        try:
            asked = convert.parsed(audit_pb2.QueryRequest, payload)
            query = query_of(asked)
            if asked.prove_in > LARGEST_INDEX:
                raise Malformed("no log is that long", rule="audit/index", field="prove_in")
        except Refusal as error:
            raise await self._desk.refused(principal, Operation.READ_LOG, error) from None
        most = self._desk.limits.page_items
        size = min(asked.page_size or most, most)
        left = asked.most_entries or LATEST
        cursor = asked.cursor
        while left > 0:
            page = await self._inquirer.page(principal, query, cursor, min(size, left), asked.prove_in)
            for frame in frames(page, query):
                await context.write(frame.SerializeToString())
            if page.cursor is None:
                return
            left -= len(page.entries)
            cursor = page.cursor.emit()
            principal = await self._desk.identify(context, Operation.READ_LOG)


def query_of(asked: audit_pb2.QueryRequest) -> Query:
    """Read a question; Malformed where it is none."""
    conditions: dict[str, list[str]] = {}
    for one in asked.conditions:
        if one.field in conditions:
            raise Malformed(
                "a field is named once, with all its values",
                rule="query/field-twice",
                field="conditions.field",
            )
        conditions[one.field] = list(one.values)
    return Query.of(conditions, start=asked.start, stop=asked.stop or LATEST, oldest_first=asked.oldest_first)


def frames(page: Page, query: Query) -> Iterator[audit_pb2.QueryPage]:
    """Put a page on the wire; at least one frame, the last with the page's own cursor."""
    frame = audit_pb2.QueryPage(tree_size=page.size)
    octets = 0
    for stored in page.entries:
        length = len(stored.entry) + len(stored.withheld)
        if frame.entries and octets + length > _FRAME_OCTETS:
            yield frame
            frame, octets = audit_pb2.QueryPage(tree_size=page.size), 0
        frame.entries.append(convert.entry(stored, page.proofs.get(stored.leaf_index, ())))
        octets += length
        at = stored.leaf_index + 1 if query.oldest_first else stored.leaf_index
        frame.cursor = Cursor(page.digest, page.size, at).emit()
    frame.cursor = "" if page.cursor is None else page.cursor.emit()
    yield frame
