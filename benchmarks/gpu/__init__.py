"""Checks of training and serving on an NVIDIA GPU: `make gpu-check`, or `python -m benchmarks.gpu.check --help`.

Each check is a process of its own, so that it starts with an empty GPU and its failure stops no other check. It prints
its section of the results page and exits with a non-zero status if what it checks is wrong.
"""
