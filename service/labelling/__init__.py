"""Labelling of files and data sets without HTTP, in this process or on Ray Data.

It may import every room below it, and nothing of `web`.
"""
