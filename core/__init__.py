"""The training system. It knows nothing of Qt; see docs/architecture.md."""

import os

# Threads that spin long while they wait for each other lose their core to the window, the camera or
# another program, and all others wait for the one that lost it: on two busy cores a default step took
# 15 s instead of 0.2 s. Threads that never spin make it slower on a quiet machine (102 ms instead of 37).
# GNU's OpenMP reads this once, when torch loads it, and everything that imports torch is below here.
os.environ.setdefault("GOMP_SPINCOUNT", "1000")

# Without it cuBLAS may add in another order each time, and deterministic runs are refused. cuBLAS reads it
# once in a process, so it has to be there before the first run, deterministic or not.
os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
