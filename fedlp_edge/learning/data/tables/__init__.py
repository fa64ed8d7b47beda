"""Tables in CSV, JSON and Parquet files, whose rows or windows of successive rows are samples."""
