"""Registry, claims and log in SQLite or PostgreSQL, behind the ports `Ledger` and `Keys`.

schema, migrations/  the tables, once, for both engines
sqlite, postgres     connections and transactions; nothing else knows an engine
session              every statement, as methods of one transaction
heads, anchor        the authenticated head: verify, remember, move
tree                 tiles and proofs
claims, leaves       what a claim and a record transaction do
groups               the store thread: concurrent calls share a commit
ledger, registry     the ports
"""
