"""The running server: the only place where the stages meet."""
