"""What an item is: rows of files and folders, missing cells, labels, and pictures up to `pixel_values`.

Training and service both read items here, so neither reads a file differently. It may import `manifest`, `errors` and
`messages` of this package, NumPy and Pillow, and pyarrow in `parquet_files` alone.
"""
