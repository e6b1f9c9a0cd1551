"""The README's pictures, of the evidence and of the method: ``python -m tables.pictures``."""
