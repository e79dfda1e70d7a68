"""The semantics of the releasing engine: for a correct program, what Django's stock engine does."""
