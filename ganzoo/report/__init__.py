"""Pages that show a run: its pictures, curves, warnings and settings."""
