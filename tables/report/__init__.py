"""All that the records of a profile say, as one HTML page: ``python -m tables.report``."""
