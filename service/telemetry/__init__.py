"""Metrics, the record of one request, and logs.

It may import `api`, `errors` and `settings`.
"""
