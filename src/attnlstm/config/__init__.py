"""The keys of the configuration, their types and defaults, and checks of what Hydra composed."""
