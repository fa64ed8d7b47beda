"""What must survive a crash: journal, checkpoints, spooled updates."""
