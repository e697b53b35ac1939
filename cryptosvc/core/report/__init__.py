"""A report on a stretch of log: what is counted, and how it is laid out for whoever reads it."""
