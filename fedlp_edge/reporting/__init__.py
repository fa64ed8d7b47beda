"""What a run tells people: events, the live view, the summary, plots."""
