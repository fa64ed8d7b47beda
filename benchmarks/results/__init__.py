"""Finished results: kept in files, compared in pairs, and put into pages of the documentation."""
