"""The supervisor: PIDs, monitors, links, names, deaths, and the wire contract that all processes share."""
