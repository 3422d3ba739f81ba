"""Writers of the documentation pages that are made of the project's own data."""
