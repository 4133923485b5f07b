"""Hold the commands, one file each."""
