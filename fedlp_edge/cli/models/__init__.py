"""This package implements the commands on exported models: write them, run them, measure them, serve them."""
