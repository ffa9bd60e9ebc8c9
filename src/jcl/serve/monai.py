"""The routes that the MONAI Label plugin of 3D Slicer calls."""
