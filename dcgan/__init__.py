"""The modules behind the notebook, one responsibility each.

Images are arrays (N, height, width, channels) with 1 or 3 channels, either uint8 in 0..255 or float
in [-1, 1].
"""
