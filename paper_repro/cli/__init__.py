"""The command line behind the Makefile: ``python -m paper_repro --help``."""
