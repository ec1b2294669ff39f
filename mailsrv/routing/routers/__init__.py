"""The routers: one file and one class each, named as in the configuration."""
