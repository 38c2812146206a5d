"""Folders of somebody's own: which files are their images, and which mask belongs to which."""
