"""Alembic migrations, packaged so that `cryptosvc init` can run them."""
