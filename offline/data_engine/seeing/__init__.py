"""Which objects a frame shows: frustum culling, z-buffers, visibility, overlap of frames, frame quality."""
