"""The registry, the plugins that fill it, and the configurations and networks that are built from it."""
