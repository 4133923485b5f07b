"""What people and programs are shown: sheets for both, JSON for programs."""
