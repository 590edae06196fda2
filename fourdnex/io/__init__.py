"""Files: written whole or not at all; images, video, depth and color as they are coded in them."""
