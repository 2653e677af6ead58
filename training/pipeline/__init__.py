"""The steps of the long commands: fit, import and compare; and finished runs, opened again.

It may import every room below it.
"""
