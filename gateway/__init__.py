"""The gateway process: HTTP, routing, and the WebSocket relay."""
