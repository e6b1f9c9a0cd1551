"""The kernels' tests under AddressSanitizer and UndefinedBehaviorSanitizer: ``make test-native``.

The kernels are compiled with both, whose runtimes are loaded before Python. That they look at all
is checked first, by a kernel that reads beyond its input and one whose input is not aligned.
"""

import os
import subprocess
import sys
from pathlib import Path

from paper_repro.engine.build import compiler

HERE = Path(__file__).parent
FLAGS = "-O1 -g -fno-omit-frame-pointer -fsanitize=address,undefined -fno-sanitize-recover=all"
TESTS = ("test_convolution.py", "test_pointwise.py", "test_network.py", "test_packed_masks.py")
#: A program, and what a sanitizer must say of it.
FAULTS = {
    "torch.tensor([0, 1, 9], dtype=torch.int32), 3": "heap-buffer-overflow",
    "torch.tensor([0, 1, 2], dtype=torch.int32)[1:].view(torch.uint8)[2:6].view(torch.uint8), 1": (
        "misaligned address"
    ),
}
PROGRAM = """
import torch
from kernels import Machine
from paper_repro.engine.program import Kind
off, count = {}
machine = Machine("generic", torch.float32)
out = torch.zeros(8)
machine.run(Kind.GATHER, [count], [torch.zeros(3)], off=off, w=out, batch=1)
"""


def environment():
    """With the sanitizers' flags, and their runtimes loaded first.

    Raises:
        SystemExit: the compiler has none.
    """
    command = compiler()
    runtimes = []
    for name in ("libasan.so", "libubsan.so"):
        asked = [*(command or ("no compiler",)), f"-print-file-name={name}"]
        ran = subprocess.run(asked, capture_output=True, text=True) if command else None
        path = ran.stdout.strip() if ran else ""
        if not os.path.isabs(path):
            raise SystemExit(f"test-native needs GCC with {name}; CXX names a compiler")
        runtimes.append(path)
    return {
        **os.environ,
        "PAPER_REPRO_CXXFLAGS": FLAGS,
        "LD_PRELOAD": " ".join(runtimes),
        # Python itself leaks at its end.
        "ASAN_OPTIONS": "detect_leaks=0",
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(HERE), str(HERE.parents[1])]),
    }


def main():
    env = environment()
    # Compiled without the runtimes, which would watch over the compiler as well.
    plain = {name: value for name, value in env.items() if name != "LD_PRELOAD"}
    subprocess.run([sys.executable, "-m", "paper_repro.engine", "--all"], env=plain, check=True)
    for operands, said in FAULTS.items():
        ran = subprocess.run(
            [sys.executable, "-c", PROGRAM.format(operands)],
            env=env,
            capture_output=True,
            text=True,
        )
        if ran.returncode == 0 or said not in ran.stderr:
            print(ran.stderr[-2000:])
            raise SystemExit(f"the sanitizers did not report a {said}")
    print("the sanitizers report what they should; now the tests")
    tests = [str(HERE / name) for name in TESTS]
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    return subprocess.run([*command, *sys.argv[1:]], env=env).returncode


if __name__ == "__main__":
    sys.exit(main())
