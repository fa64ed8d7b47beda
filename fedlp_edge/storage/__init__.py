"""This package stores what must survive a crash: journal, checkpoints, spooled updates."""
