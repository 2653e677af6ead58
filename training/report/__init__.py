"""Reports of runs for people: the HTML report, plots and terminal tables.

It may import `learning` and the rooms below, but not `export`.
"""
