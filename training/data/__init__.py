"""Examples and splits of a task, benchmark data sets, and missing tables.

It may import the configuration, but not `model`.
"""
