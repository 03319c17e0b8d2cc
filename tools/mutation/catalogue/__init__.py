"""Every mutation, by the folder that it breaks."""
