"""Text → frozen values, once. Files are named here; what they hold is read by `config/files.py` and handed on."""
