"""Data sets in their official layouts, folders of pictures, augmentation, and the toy world."""
