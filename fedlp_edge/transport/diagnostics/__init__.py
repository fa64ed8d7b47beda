"""What a broker really does, found out by trying."""
