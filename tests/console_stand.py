"""A console over a log in memory: real entries, proofs and checkpoints, without a service."""

import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from cryptosvc.cli.actions import Document
from cryptosvc.cli.browser.loopback import Loopback
from cryptosvc.cli.inquiry import Asked, Rows
from cryptosvc.core.account import Account, instant
from cryptosvc.core.entries import values_beside
from cryptosvc.core.errors import Forbidden
from cryptosvc.core.merkle import SubtreeHash, consistency_proof, inclusion_proof, leaf_hash, root_of
from cryptosvc.core.query import LATEST, Query
from cryptosvc.core.retold import Told, retold
from cryptosvc.core.said import FIELDS, moment, said
from tests.browser import Browser
from tests.report_stand import log
from tests.signed_logs import ORIGIN, SPKI, Entry, note

POLICY_TEXT = '@id("purpose-commands")\n@clause("G2.56")\npermit (principal, action, resource);'


def subtrees(digests: list[bytes]) -> SubtreeHash:
    """Hashes of complete subtrees over these leaves."""
    return lambda height, index: root_of(digests[index << height : (index + 1) << height])


@dataclass
class MemoryViews:
    """Implements `Views`; `change` may do to a proof what an attacker would."""

    entries: list[Entry] = field(default_factory=log)
    signed: int = 55
    kept: int = 33
    page: int = 20
    change: Callable[[dict[str, Any]], None] = lambda _evidence: None
    asked: list[Asked] = field(default_factory=list)

    def about(self) -> Document:
        fields = {name: one.meaning for name, one in FIELDS.items()}
        return {
            "origin": ORIGIN,
            "log_key": b64encode(SPKI).decode(),
            "kept": note(self.entries[: self.kept]).decode(),
            "fields": fields,
            "target": "memory",
        }

    def rows(self, asked: Asked) -> Rows:
        self.asked.append(asked)
        query = Query.of(
            asked.conditions, start=asked.start, stop=asked.stop or LATEST, oldest_first=asked.oldest_first
        )
        if "approver" in asked.conditions:
            raise Forbidden("only an auditor may query the log", rule="audit/not-auditor", clause="G2.26")
        found = [one for one in map(self._told, range(len(self.entries))) if self._answers(query, one)]
        if not asked.oldest_first:
            found.reverse()
        begin = int(asked.cursor or 0)
        stop = begin + self.page
        rows = [self._row(one) for one in found[begin:stop]]
        return Rows(rows, str(stop) if stop < len(found) else "", len(self.entries))

    def key(self, key_id: str) -> Document:
        account = Account()
        for one in map(self._told, range(len(self.entries))):
            if self._answers(Query.of({"key": [key_id]}), one):
                account.take(one.leaf_index, one.entry, one.beside)
        return {"key": key_id, **account.document()}

    def entry(self, leaf_index: int) -> Document:
        octets, withheld = self.entries[leaf_index]
        subtree = subtrees([leaf_hash(one) for one, _ in self.entries[: self.signed]])
        hashes = None
        if leaf_index < self.signed:
            hashes = [one.hex() for one in inclusion_proof(leaf_index, self.signed, subtree)]
        evidence = {
            "leaf_index": leaf_index,
            "entry": b64encode(octets).decode(),
            "withheld": withheld.decode(),
            "checkpoint": note(self.entries[: self.signed]).decode(),
            "hashes": hashes,
            "consistency": [one.hex() for one in consistency_proof(self.kept, self.signed, subtree)],
        }
        self.change(evidence)
        return evidence

    def why(self, leaf_index: int) -> Document:
        told = self._told(leaf_index)
        return retold(told, {"20-commands.cedar": POLICY_TEXT}, [])

    def _told(self, leaf_index: int) -> Told:
        octets, withheld = self.entries[leaf_index]
        entry = orjson.loads(octets)
        return Told(leaf_index, entry, values_beside(leaf_index, entry, withheld))

    def _answers(self, query: Query, told: Told) -> bool:
        return query.answered_by(said(told.entry, told.beside), moment(told.entry))

    def _row(self, told: Told) -> dict[str, Any]:
        pairs = said(told.entry, told.beside)
        names = ("kind", "operation", "key", "content", "message", "outcome", "rule", "clause", "caller")
        return {"leaf_index": told.leaf_index, "time": instant(moment(told.entry))} | {
            name: " ".join(sorted(value for field_name, value in pairs if field_name == name))
            for name in names
        }


@contextmanager
def served(views: MemoryViews) -> Iterator[str]:
    """Serve them; the address to open."""
    loopback = Loopback(views)
    thread = threading.Thread(target=loopback.serve)
    thread.start()
    try:
        yield loopback.address
    finally:
        loopback.close()
        thread.join()


class Console:
    """The console in a browser, as an auditor uses it."""

    def __init__(self, seen: Browser, address: str) -> None:
        self.seen = seen
        self.origin = address.partition("/begin")[0]
        seen.open(address)
        self.wait("h1")

    def wait(self, selector: str, text: str = "") -> str:
        """Wait until something is there and says this; what it says."""

        def ready(driver: Any) -> str | None:
            try:
                found = [one.text for one in driver.find_elements(By.CSS_SELECTOR, selector)]
            except StaleElementReferenceException:  # the page has just shown something else
                return None
            return next((one for one in found if text in one and one), None)

        return str(WebDriverWait(self.seen.driver, 20, 0.05).until(ready, f"{selector}: {text}"))

    def go(self, view: str) -> None:
        """Go to a view by its address."""
        self.seen.driver.get(f"{self.origin}/#/{view}")

    def rows(self, caption: str) -> list[list[str]]:
        """Cells of the table whose caption begins so."""
        for table in self.seen.each("table"):
            if table.find_element(By.TAG_NAME, "caption").text.startswith(caption):
                return [
                    [cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")]
                    for row in table.find_elements(By.CSS_SELECTOR, "tbody tr")
                ]
        pytest.fail(f"no table {caption!r}")
