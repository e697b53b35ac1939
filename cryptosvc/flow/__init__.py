"""WALKS. One use case per module, its steps numbered, straight down the page."""
