"""Input and output: atomic files, images, video, depth and color conversion."""
