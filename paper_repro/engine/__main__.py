"""``python -m paper_repro.engine [--all]``: compile the kernels now, not at first use.

``--all`` compiles for every instruction set of this processor. Without a compiler it says so and
succeeds: everything but the sparse engine works.
"""

import sys

from paper_repro.engine.build import best, build, supported
from paper_repro.errors import UserError

if __name__ == "__main__":
    for asked in supported() if "--all" in sys.argv[1:] else (None,):
        try:
            name = asked or best()
            print(f"the sparse engine for {name}: {build(name)}")
        except UserError as error:
            print(f"{error}; without it runs train by PyTorch's dense kernels")
