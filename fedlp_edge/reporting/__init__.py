"""This package reports a run to people: events, the live view, the summary, plots."""
