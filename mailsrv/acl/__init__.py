"""Access control lists: the third stage of a mail's way (specification chapter 44)."""
