"""The tables, once, for both engines; `migrations/` brings a database to them.

Everything on the hot path is appended in key order, so that a log of any length dirties the pages of its right edge
only: leaves one a row, claims one row a group commit. What must be found by a random key is in `index.py` (SQLite) or
in the table `taken` (PostgreSQL).
"""

from sqlalchemy import (
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
)

metadata = MetaData()

_Number = BigInteger().with_variant(Integer, "sqlite")
"""SQLite makes an INTEGER PRIMARY KEY the row id itself; any other type costs a second tree."""


def _key(name: str) -> Column[int]:
    return Column(name, _Number, primary_key=True, autoincrement=False)


deployment = Table(
    "deployment",
    metadata,
    _key("id"),
    Column("origin", String, nullable=False),
    Column("system", String, nullable=False),
    Column("environment", String, nullable=False),
    Column("database_id", LargeBinary, nullable=False),
    comment="one row: whose store this is, as its genesis entry says",
)

registry_state = Table(
    "registry_state",
    metadata,
    _key("id"),
    Column("generation", _Number, nullable=False),
    comment="one row, apart from the head so that claims can hold it FOR SHARE while the head moves",
)

head = Table(
    "head",
    metadata,
    _key("id"),
    Column("body", LargeBinary, nullable=False),
    Column("tag", LargeBinary, nullable=False),
    comment="one row: the authenticated head (heads.py)",
)

leaf = Table(
    "leaf",
    metadata,
    _key("leaf_index"),
    Column("entry", LargeBinary, nullable=False),
    Column("withheld", LargeBinary, nullable=False),
)

tile = Table(
    "tile",
    metadata,
    _key("tile_id"),
    Column("root", LargeBinary, nullable=False),
    Column("hashes", LargeBinary, nullable=False),
    comment="256 hashes and the node above them; tile_id is level << 48 | index",
)

claim = Table(
    "claim",
    metadata,
    Column("claim_batch", _Number, primary_key=True, autoincrement=True),
    Column("deadline", _Number, nullable=False),
    Column("leaves", LargeBinary, nullable=False),
    Column("taken", LargeBinary, nullable=False),
    comment="one row a group: leaf index of each claim (8 octets, all ones while open), what each took",
)

opening = Table(
    "opening",
    metadata,
    _key("claim_batch"),
    Column("body", LargeBinary, nullable=False),
    comment="openings of a group with an open claim: what the sweeper writes if nobody else does",
)

taken = Table(
    "taken",
    metadata,
    _key("fingerprint"),
    Column("claim_batch", _Number, nullable=False),
    comment="PostgreSQL only: uniqueness across nodes",
)

rising = Table(
    "rising",
    metadata,
    _key("fingerprint"),
    Column("number", LargeBinary, nullable=False),
)

record = Table(
    "record",
    metadata,
    Column("kind", String, primary_key=True),
    Column("record_id", String, primary_key=True),
    Column("version", _Number, nullable=False),
    Column("leaf_index", _Number, nullable=False),
    Column("document", LargeBinary, nullable=False),
    Column("bucket", Integer, nullable=False),
    Column("system", String, nullable=False),
    Column("certificate_sha256", LargeBinary),
    UniqueConstraint("certificate_sha256", name="record_certificate"),
    Index("record_bucket", "bucket"),
    Index("record_system", "kind", "system"),
    Index("record_leaf", "leaf_index"),
)

registry_node = Table(
    "registry_node",
    metadata,
    _key("node_id"),
    Column("children", LargeBinary, nullable=False),
    comment="nodes of the registry tree; node_id is level << 32 | index",
)

checkpoint = Table(
    "checkpoint",
    metadata,
    _key("size"),
    Column("note", LargeBinary, nullable=False),
)

device_key = Table(
    "device_key",
    metadata,
    Column("device", LargeBinary, primary_key=True),
    Column("kind", String, primary_key=True),
    Column("version", _Number, primary_key=True, autoincrement=False),
    Column("state", String, nullable=False),
    Column("system", String, nullable=False),
    Column("manufacturer", String, nullable=False),
    Column("model", String, nullable=False),
    Column("firmware", String, nullable=False),
    Column("wrapping", String, nullable=False),
    Column("binding", String, nullable=False),
    Column("check_value", LargeBinary, nullable=False),
    Column("blob", LargeBinary, nullable=False),
    Column("work", String, nullable=False),
    Column("tag", LargeBinary, nullable=False),
    comment="keys of SMETS1 Devices, each wrapped by a module (core/device_keys.py)",
)

device_bucket = Table(
    "device_bucket",
    metadata,
    _key("bucket"),
    Column("members", LargeBinary, nullable=False),
    comment="what the tree over device keys holds of each row (core/device_tree.py)",
)

device_node = Table(
    "device_node",
    metadata,
    _key("node_id"),
    Column("children", LargeBinary, nullable=False),
    comment="nodes of the tree over device keys; node_id is level << 32 | index",
)
