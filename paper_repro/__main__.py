"""``python -m paper_repro``."""

import sys

from paper_repro.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
