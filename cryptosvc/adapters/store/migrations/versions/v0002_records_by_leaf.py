"""Records by the leaf of their last change, so that what changed since is found without reading all of them."""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the index."""
    op.create_index("record_leaf", "record", ["leaf_index"])
