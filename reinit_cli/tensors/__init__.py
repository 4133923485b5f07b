"""Know, read and measure one tensor."""
