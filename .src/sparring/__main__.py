"""``python -m sparring``, and so ``torchrun --nproc-per-node 2 -m sparring``."""

from sparring.training.cli import main

main()
