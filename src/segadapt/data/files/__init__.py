"""Image files: which are read, how their content becomes numbers, and how pictures are written."""
