"""The training loop and what surrounds it: batches, trunk outputs, evaluation, calibration, run folders.

It may import `model` and `data`.
"""
