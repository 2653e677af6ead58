"""The commands' work, each as its steps: fit, import, compare.

It may import every room below it.
"""
