"""Importers of other people's material; the material itself stays with its owners."""
