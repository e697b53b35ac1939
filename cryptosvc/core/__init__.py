"""DECIDES. Everything here is computable from its arguments alone: no clock, no file, no socket, no module."""
