"""The modules behind the notebook; images are (N, height, width, 1 or 3), uint8 or in [-1, 1]."""
