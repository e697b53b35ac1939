"""Governed acts: what each takes, what it does to which records, and how it is said to those who approve it."""
