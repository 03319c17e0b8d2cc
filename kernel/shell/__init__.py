"""Performs: the supervisor's loop, its children, its channels, and the command line."""
