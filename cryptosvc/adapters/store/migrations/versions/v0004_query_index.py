"""The query index (`postings.py`), which stands in the store's own database where that is PostgreSQL.

Beside SQLite it has a file of its own, made when it is opened: it can be lost and is then filled again.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the three tables, on PostgreSQL."""
    if op.get_bind().dialect.name != "postgresql":
        return

    def number(name: str) -> sa.Column[int]:
        return sa.Column(name, sa.BigInteger, nullable=False)

    def octets(name: str) -> sa.Column[bytes]:
        return sa.Column(name, sa.LargeBinary, nullable=False)

    op.create_table(
        "query_state",
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        octets("term_key"),
        octets("log"),
        number("through"),
        octets("last"),
    )
    op.create_table(
        "query_posting",
        sa.Column("term", sa.BigInteger, primary_key=True, autoincrement=False),
        sa.Column("block", sa.BigInteger, primary_key=True, autoincrement=False),
        octets("leaves"),
    )
    op.create_table(
        "query_block",
        sa.Column("block", sa.BigInteger, primary_key=True, autoincrement=False),
        number("earliest"),
        number("latest"),
        number("highest"),
        number("lowest"),
    )
    op.create_index("query_block_highest", "query_block", ["highest", "block"])
    op.create_index("query_block_lowest", "query_block", ["lowest", "block"])
