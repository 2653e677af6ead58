"""The training loop with its batches and cache, evaluation, calibration, and run folders.

It may import `model` and `data`.
"""
