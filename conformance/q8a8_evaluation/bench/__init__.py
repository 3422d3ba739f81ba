"""The speed and the memory of the reference, measured in processes of their own."""
