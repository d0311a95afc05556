"""HTTP and WebSocket endpoints. All handlers run on the event loop, as the real ones do."""
