"""Do what the tool can do; each public function has a file."""
