"""The steps of the long commands: fit, import and compare. Also opens finished runs again.

It may import every room below it.
"""
