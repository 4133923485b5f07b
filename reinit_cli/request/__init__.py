"""Hold and read what is asked, in the user's words."""
