"""Reads and checks the configuration: text in, an `Application` or every mistake out."""
