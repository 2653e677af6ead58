"""Items: rows of files and folders, their empty cells and labels, and pictures up to `pixel_values`.

Training and the service both read items here, so both read a file alike. It may import `manifest`, `errors` and
`messages` of this package, NumPy and Pillow; only `parquet_files` may import pyarrow.
"""
