"""The golden vectors, their schema, and the exact oracle that vouches for them."""
