"""The authenticator drivers: one file each, named as in the configuration."""
