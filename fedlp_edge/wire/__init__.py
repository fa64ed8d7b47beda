"""Messages to bytes and back; everything that a stranger may have written is checked here."""
