"""First tables. A migration spells its tables out: `schema.py` moves on, what was applied does not.

There is no way down: a log is never taken apart.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make every table of version 1."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")

    def key(name: str, *, counts: bool = False) -> sa.Column[int]:
        return sa.Column(name, number, primary_key=True, autoincrement=counts)

    def octets(name: str, *, nullable: bool = False) -> sa.Column[bytes]:
        return sa.Column(name, sa.LargeBinary, nullable=nullable)

    def text(name: str) -> sa.Column[str]:
        return sa.Column(name, sa.String, nullable=False)

    def count(name: str) -> sa.Column[int]:
        return sa.Column(name, number, nullable=False)

    op.create_table(
        "deployment", key("id"), text("origin"), text("system"), text("environment"), octets("database_id")
    )
    op.create_table("registry_state", key("id"), count("generation"))
    op.create_table("head", key("id"), octets("body"), octets("tag"))
    op.create_table("leaf", key("leaf_index"), octets("entry"), octets("withheld"))
    op.create_table("tile", key("tile_id"), octets("root"), octets("hashes"))
    op.create_table(
        "claim", key("claim_batch", counts=True), count("deadline"), octets("leaves"), octets("taken")
    )
    op.create_table("opening", key("claim_batch"), octets("body"))
    op.create_table("taken", key("fingerprint"), count("claim_batch"))
    op.create_table("rising", key("fingerprint"), octets("number"))
    op.create_table(
        "record",
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("record_id", sa.String, primary_key=True),
        count("version"),
        count("leaf_index"),
        octets("document"),
        sa.Column("bucket", sa.Integer, nullable=False),
        text("system"),
        octets("certificate_sha256", nullable=True),
        sa.UniqueConstraint("certificate_sha256", name="record_certificate"),
    )
    op.create_index("record_bucket", "record", ["bucket"])
    op.create_index("record_system", "record", ["kind", "system"])
    op.create_table("registry_node", key("node_id"), octets("children"))
    op.create_table("checkpoint", key("size"), octets("note"))
