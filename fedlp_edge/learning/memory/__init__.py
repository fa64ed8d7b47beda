"""What training takes of memory: measured, limited, and saved."""
