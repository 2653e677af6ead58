"""Towers, MoRA and the methods it is compared with, the classifier, preprocessing, and imported checkpoints.

It may import the configuration, but not `data`.
"""
