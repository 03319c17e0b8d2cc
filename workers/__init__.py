"""What handlers import (`process`, `http`), and the processes that run them."""
