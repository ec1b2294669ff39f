"""Local delivery as another system user: the small process that stays root, and how it is asked."""
