"""Ceremonies as values: the file, the plan it makes, the transcript of what was done, and how two of them differ."""
