"""Data sets as the Hugging Face hub and its ``datasets`` library store them, in Parquet or Arrow files."""
