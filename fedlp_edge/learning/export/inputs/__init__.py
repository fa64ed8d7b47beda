"""This package reads what an exported model has to answer: files, folders, tables and JSON."""
