"""Acts on the log itself. They change no record: the consumed proposal is what stands in the log.

Source: Smart Energy Code G2.16 (backups).
"""

import re

from cryptosvc.core.acts.base import Act, Kind, Parameter, Sentence, Turn
from cryptosvc.core.errors import Malformed
from cryptosvc.core.registry import Record

RESTORE = "log.restore"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def _restore(turn: Turn) -> tuple[Record, ...]:
    if not _DIGEST.fullmatch(turn.statement.subject):
        raise Malformed(
            "what is restored is named by the SHA-256 of its manifest, as `cryptosvc restore --look` prints it",
            rule="restore/subject",
            clause="G2.16",
            field="subject",
        )
    return ()


LOG_ACTS = (
    Act(
        name=RESTORE,
        clause="G2.16",
        after=_restore,
        alone=True,
        least_people=2,
        parameters=(
            Parameter("size", Kind.NUMBER, "entries of the log in the backup"),
            Parameter("known", Kind.NUMBER, "entries the log is known to have had; 0 where nobody can say"),
        ),
        sentence=Sentence(
            "Put the log back to the {size} entries of backup {subject}, although it is known to have had {known} (0: "
            "nobody can say how many). What came after the backup is lost, and the log says so for ever."
        ),
    ),
)
