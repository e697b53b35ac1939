"""What is asked of a transfer before a step of it is taken, and the papers that carry keys: these look at records.

The papers that records hold stand below the registry, in `core/transfer`.
"""
