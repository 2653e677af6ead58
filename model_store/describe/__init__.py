"""Descriptions of a version: model card, SBOM, and tables for the terminal. All are made from the manifest alone.

It may import the manifest, and nothing that reads or writes the store.
"""
