"""The coordinator service: learns what devices can bear, gives them work, averages what comes back."""
