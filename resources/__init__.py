"""Icons and other files of the window, read through importlib.resources by app only."""
