"""This package describes exported models for people: a page and a picture."""
