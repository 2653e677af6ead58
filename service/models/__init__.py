"""From a verified version to something callable: graphs, towers, tokenizer, head, and which versions are loaded.

It may import `telemetry` and the rooms below.
"""
