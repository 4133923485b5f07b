"""The door for Python: the functions that `reinit_cli` exports."""
