"""Request and answer types: pydantic models and dataclasses.

It may import `errors` and no framework.
"""
