"""What the tests share: waiting, a running runtime, and the checks that nothing is left behind."""
