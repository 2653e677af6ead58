"""Descriptions of a version: model card, SBOM, and tables for the terminal.

They are made from the manifest alone. This package imports no module that reads or writes the store.
"""
