"""Device keys, and the tree over them."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the three tables."""
    number = sa.BigInteger().with_variant(sa.Integer, "sqlite")

    def octets(name: str) -> sa.Column[bytes]:
        return sa.Column(name, sa.LargeBinary, nullable=False)

    def text(name: str) -> sa.Column[str]:
        return sa.Column(name, sa.String, nullable=False)

    op.create_table(
        "device_key",
        sa.Column("device", sa.LargeBinary, primary_key=True),
        sa.Column("kind", sa.String, primary_key=True),
        sa.Column("version", number, primary_key=True, autoincrement=False),
        text("state"),
        text("system"),
        text("manufacturer"),
        text("model"),
        text("firmware"),
        text("wrapping"),
        text("binding"),
        octets("check_value"),
        octets("blob"),
        text("work"),
        octets("tag"),
    )
    op.create_table(
        "device_bucket",
        sa.Column("bucket", number, primary_key=True, autoincrement=False),
        octets("members"),
    )
    op.create_table(
        "device_node",
        sa.Column("node_id", number, primary_key=True, autoincrement=False),
        octets("children"),
    )
