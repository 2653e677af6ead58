"""What an item is: rows of files, missing cells, labels, and pictures up to `pixel_values`.

Training and service both read items through this room. It may import the manifest, errors and messages.
"""
