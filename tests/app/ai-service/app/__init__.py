"""The sample application: same contracts and traps as the real platform."""
