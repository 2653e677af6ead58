"""The commands that take long, each as its steps: fit, import, compare; and opening finished runs.

It may import every room below it.
"""
