"""What is registered, how plugins register it, and how a configuration and networks are built from it."""
