"""Embed, search, align: reads to places in a reference by way of their vectors."""
