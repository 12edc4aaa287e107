"""Set before anything is imported: no test reaches the Hub, and each process computes on one core."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
# The models of the tests are too small to share; two test processes are faster than one with two threads.
os.environ["OMP_NUM_THREADS"] = "1"
