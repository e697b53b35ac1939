"""Alembic's entry point: migrations run on the connection `engine.migrate` hands over."""

from alembic import context

from cryptosvc.adapters.store.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
