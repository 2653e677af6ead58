"""What people read about a run: the HTML report, plots and terminal tables.

It may import `learning` and the rooms below, and nothing of `export`.
"""
