"""Hold and read what a user asks for, in the user's words."""
