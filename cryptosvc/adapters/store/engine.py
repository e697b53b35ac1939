"""From a store URL to a store, and to a database that has the tables this version needs."""

from pathlib import Path

import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.exc import SQLAlchemyError

from cryptosvc.adapters.store.opener import Opener
from cryptosvc.adapters.store.postgres import PostgresStore
from cryptosvc.adapters.store.session import Store
from cryptosvc.adapters.store.sqlite import PAGE_OCTETS, SqliteStore
from cryptosvc.core.errors import Malformed, Unavailable

_MIGRATIONS = Path(__file__).parent / "migrations"
_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql+psycopg://", "postgresql://")


def open_store(url: str, opener: Opener | None = None) -> Store:
    """Make the store of a URL, `sqlite:///PATH` or `postgresql+psycopg://…`; nothing is connected yet.

    Args:
        url: where.
        opener: opens what is sealed beside entries; without one it is read as it stands.

    Raises:
        Malformed: another kind of URL.

    """
    if url.startswith(_SQLITE):
        return SqliteStore(Path(url.removeprefix(_SQLITE)), opener=opener)
    if url.startswith(_POSTGRES):
        return PostgresStore(url, opener=opener)
    raise Malformed(
        "a store URL starts with sqlite:/// or postgresql+psycopg://", rule="store/url", field="store.url"
    )


def migrate(url: str) -> None:
    """Bring a database to this version's tables; makes the SQLite file where it is not there.

    Raises:
        Unavailable: out of reach, or changed by a newer version.

    """
    engine = _engine(url)
    try:
        with engine.begin() as connection:
            if url.startswith(_SQLITE):  # only a file without tables yet takes it
                connection.exec_driver_sql(f"PRAGMA page_size = {PAGE_OCTETS}")
            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except SQLAlchemyError as error:
        raise _out_of_reach(error) from None
    finally:
        engine.dispose()


def missing_migrations(url: str) -> list[str]:
    """Revisions the database lacks, oldest first; for `doctor`."""
    engine = _engine(url)
    try:
        with engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        script = ScriptDirectory(str(_MIGRATIONS))
        every = [revision.revision for revision in script.walk_revisions()][::-1]
        return every if current is None else every[every.index(current) + 1 :]
    except SQLAlchemyError as error:
        raise _out_of_reach(error) from None
    except ValueError:
        raise Unavailable(
            "the store was made by a newer version of this program", rule="store/schema"
        ) from None
    finally:
        engine.dispose()


def _engine(url: str) -> sqlalchemy.Engine:
    if url.startswith("postgresql://"):
        url = "postgresql+psycopg://" + url.removeprefix("postgresql://")
    return sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)


def _out_of_reach(error: SQLAlchemyError) -> Unavailable:
    return Unavailable(
        f"the store is out of reach ({type(error).__name__}); check store.url", rule="store/unreachable"
    )
