"""What holds for all tests of the pipeline."""

import os

# One thread each: the models here are small, and threads that wait for each other take four times
# the processor time where other work runs too. Before a test imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")
