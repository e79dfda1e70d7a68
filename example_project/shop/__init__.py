"""The shop: a Django project and app of a few real pages, and of views that hold connections in known ways."""
