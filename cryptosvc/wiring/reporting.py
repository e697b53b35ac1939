"""Reports on a stretch of log: every entry of it is verified while it is counted."""

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

import cryptosvc
from cryptosvc.adapters import log_range
from cryptosvc.adapters.clock import SystemClock
from cryptosvc.cli import report_page
from cryptosvc.cli.actions import Connection, Document, Progress
from cryptosvc.cli.reporting import Report
from cryptosvc.core import checkpoint
from cryptosvc.core.account import instant
from cryptosvc.core.errors import Corrupt, Malformed
from cryptosvc.core.query import LATEST, Query
from cryptosvc.core.report.page import NotVerified, Page, Scope, Verified
from cryptosvc.core.report.sections import laid_out
from cryptosvc.core.report.survey import Survey
from cryptosvc.wiring.exporting import public_key_der
from cryptosvc.wiring.inquiring import Inquiries


class Reports:
    """Implements `cli.reporting.Reports`."""

    def from_range(self, range_file: Path, report: Report, progress: Progress) -> Document:
        """Report on a range that was fetched before."""
        scope = Scope(key=report.key, system=report.system, start=report.start, stop=report.stop)
        survey = Survey()
        # 1 verify, and count
        verdict = _verified(range_file, report, survey, progress)
        # 2 see which entries it leads to, and read those
        wanted = laid_out(verdict, survey, scope, {}).cited
        cited = {told.leaf_index: told for told in log_range.told(range_file, wanted)} if wanted else {}
        # 3 write
        page = laid_out(verdict, survey, scope, cited)
        made = {"at": instant(SystemClock().now().at), "by": f"cryptosvc {cryptosvc.__version__}"}
        octets = _write(report.out, report_page.pages(verdict, page, scope, cited, made))
        return _done(report, verdict, survey, page, octets)

    def from_service(
        self, connection: Connection, since: Path | None, report: Report, progress: Progress
    ) -> Document:
        """Fetch the range into a file that is deleted afterwards, and report on it."""
        with tempfile.TemporaryDirectory(prefix="cryptosvc-report-") as folder:
            fetched = Path(folder) / "range"
            Inquiries().fetch_range(connection, fetched, since, progress)
            return self.from_range(fetched, report, progress)


def _verified(range_file: Path, report: Report, survey: Survey, progress: Progress) -> Verified | NotVerified:
    conditions = {name: [value] for name, value in (("key", report.key), ("system", report.system)) if value}
    query = Query.of(conditions, start=report.start, stop=report.stop or LATEST)
    key = public_key_der(report.log_key)
    try:
        head = log_range.read_head(range_file)
        found = log_range.replay(
            range_file,
            key,
            query,
            origin=report.origin,
            listener=survey,
            progress=lambda done, size: progress("verifying and counting", done, size),
        )
    except Corrupt as error:
        return NotVerified(rule=error.rule, message=error.message)
    return Verified(
        origin=head.origin,
        start=found.start,
        stop=found.stop,
        first=head.first.decode(),
        last=head.last.decode(),
        root=checkpoint.parse(head.last).checkpoint.root.hex(),
        key=hashlib.sha256(key).hexdigest(),
        undecided=survey.undecided.count,
    )


def _write(path: Path, pieces: Iterable[str]) -> int:
    """Write a file that appears when it is complete; how many octets it has."""
    partial = path.with_name(path.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(pieces)
            octets = file.tell()
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        raise Malformed(
            f"cannot write {path}: {error.strerror}", rule="config/output", field="--out"
        ) from None
    finally:
        partial.unlink(missing_ok=True)
    return octets


def _done(
    report: Report, verdict: Verified | NotVerified, survey: Survey, page: Page, octets: int
) -> Document:
    document: dict[str, str | int | bool] = {
        "written_to": str(report.out),
        "octets": octets,
        "verified": isinstance(verdict, Verified),
    }
    if isinstance(verdict, NotVerified):
        return document | {"rule": verdict.rule, "message": verdict.message}
    return document | {
        "origin": verdict.origin,
        "from": verdict.start,
        "to": verdict.stop,
        "entries": survey.entries.count,
        "undecided": verdict.undecided,
        "figures": len(page.sources),
        "cited": len(page.cited),
    }
