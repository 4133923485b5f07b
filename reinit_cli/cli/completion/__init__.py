"""Complete what is typed in a shell."""
