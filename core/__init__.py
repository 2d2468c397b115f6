"""The training system. It knows nothing of Qt; see docs/architecture.md."""

import os

# Threads that spin while they wait for each other lose their core to the window, the camera or another
# program, and all others wait for the one that lost it: on two busy cores a step took 15 s instead of
# 0.3 s. OpenMP reads this once, when torch loads it, and everything that imports torch is below here.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
