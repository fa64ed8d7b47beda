"""The coordinator service plans what each device trains, gives out tasks, and averages the updates."""
