"""Labelling of files and data sets without HTTP, in this process or on Ray Data.

It may import every lower room, but not `web`.
"""
