"""Descriptions of a version from its manifest: model card, SBOM and tables for the terminal.

It may import the manifest and nothing that reads or writes the store.
"""
